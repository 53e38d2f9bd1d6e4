"""Writing files so that they appear whole or not at all, a disk's refusal that reads like a sentence, and digests."""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from longjing.errors import UserError

_TICK = 20_000_000  # nanoseconds within which a file system may give two versions of a file the same time


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the refusal of a write below `path` (full disk, no permission) into a UserError."""
    try:
        yield
    # A SafetensorError is how safetensors words an OSError; wrong tensors raise other types.
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def digest(path: str | Path) -> str:
    """The SHA-256 of a file. Of a directory, that of the list of its files' digests, without notes (*.md):

    ls | grep -v '\\.md$' | LC_ALL=C sort | xargs sha256sum | sha256sum

    Raises UserError if it can't be read.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix != ".md")
        lines = "".join(f"{digest(file)}  {file.name}\n" for file in files)
        return hashlib.sha256(lines.encode()).hexdigest()
    try:
        now = path.stat()
        read = _sha256 if time.time_ns() - now.st_ctime_ns > _TICK else _sha256.__wrapped__
        return read(path.absolute(), now.st_mtime_ns, now.st_ctime_ns, now.st_size, now.st_ino)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


@lru_cache(maxsize=1024)
def _sha256(path: Path, *_version: int) -> str:
    """Read once for each version of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or a directory's list of names, is on the disk itself, so that a power cut can't undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to: what is there becomes `path` when the block ends well, and vanishes when it doesn't.

    A reader of `path` sees the old file or the new one, never a part. That the new *name* survives a power cut, too,
    needs a `sync` of the directory.
    """
    part = _part(path)
    try:
        yield part
        sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def refuse_unwritable(path: Path) -> None:
    """Raise UserError for a file that couldn't be written: before the work rather than after it."""
    with disk_errors(path):
        if path.is_dir():
            raise IsADirectoryError("it is a directory")
        part = _part(path)
        part.touch()
        part.unlink()


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def write_text(path: Path, text: str) -> None:
    """Replace the file by this text, whole or not at all. Raises UserError if the disk refuses."""
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file whole or not at all, from text that comes bit by bit; each says itself where its lines end."""
    # A model's text may hold half of a surrogate pair, which UTF-8 has no bytes for.
    with (
        disk_errors(path),
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace") as file,
    ):
        file.writelines(lines)


def to_json(value: Any) -> str:
    """Standard JSON on one line, which UTF-8 can write: half of a surrogate pair is escaped. A number that isn't finite
    becomes null: JSON has no word for it."""
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
