"""Writing files so that they appear whole or not at all, a disk's refusal that reads like a sentence, and digests."""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from longjing.errors import UserError

_NOTES = ".md"


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the refusal of a write below `path` (full disk, no permission) into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    except SafetensorError as error:  # how safetensors words an OSError; wrong tensors raise other types
        raise UserError(f"cannot write {path}: {error}") from error


def digest(path: str | Path) -> str:
    """SHA-256 of a file. Of a directory, that of the list of its files' digests, without notes (*.md):

    ls | grep -v '\\.md$' | LC_ALL=C sort | xargs sha256sum | sha256sum
    """
    path = Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix != _NOTES)
    listed = "".join(f"{digest(file)}  {file.name}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()


def sync(path: Path) -> None:
    """Wait until the file or directory is on the disk itself, so that a power cut can't undo it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace the file: a reader sees the old text or the new, never a part."""
    write_lines(path, [text])


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """The same for text that comes bit by bit; each says itself where its lines end."""
    part = path.with_name(path.name + ".part")
    with disk_errors(path):
        try:
            # A model's text may hold half of a surrogate pair, which UTF-8 has no bytes for.
            with part.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(lines)
            sync(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


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
