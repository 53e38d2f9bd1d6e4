"""Logs of one JSON object per line, written as the work goes and cut back when it is resumed."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from longjing.files import disk_errors, sync, to_json, write_text

Row = dict[str, Any]

_BLOCK = 1 << 16  # bytes that are read at once, from the end of a file


class JsonLines:
    """An append-only log whose rows carry the `step` they belong to, in order.

    Every row reaches the operating system before `append` returns, so `kill -9` loses none.
    A number that isn't finite is written as null. `on_append` hears every row, `migrate` gives one that
    was written by another version today's names.
    """

    def __init__(
        self, path: Path, on_append: Callable[[Row], None] | None = None, migrate: Callable[[Row], Row] | None = None
    ) -> None:
        self.path = path
        self._on_append, self._migrate = on_append, migrate

    def append(self, row: Row) -> None:
        """Write a row at the end. Raises UserError if the disk refuses."""
        line = (to_json(row) + "\n").encode()
        with disk_errors(self.path), self.path.open("ab", buffering=0) as file:
            while line:
                line = line[file.write(line) :]
        if self._on_append is not None:
            self._on_append(row)

    def rewind(self, step: float) -> None:
        """Drop the rows of later steps, and a last line that was cut off while it was written."""
        if not self.path.exists():
            return
        with disk_errors(self.path), self.path.open("r+b") as file:
            kept = (end for end, line in _backwards(file) if line.endswith(b"\n") and _step(line) <= step)
            file.truncate(next(kept, 0))

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Drop all other rows."""
        rows = self.rows()
        kept = list(filter(wanted, rows))
        if len(kept) < len(rows):
            write_text(self.path, "".join(to_json(row) + "\n" for row in kept))

    def rows(self) -> list[Row]:
        """All rows, under today's names."""
        rows = read_jsonl(self.path)
        return rows if self._migrate is None else list(map(self._migrate, rows))

    def last(self, count: int) -> list[Row]:
        """At most `count` of the last whole rows, without reading what comes before them."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            lines = list(islice((line for _, line in _backwards(file) if line.endswith(b"\n")), count))
        return [json.loads(line) for line in reversed(lines)]

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        if self.path.exists():
            sync(self.path)


def read_jsonl(path: Path) -> list[Row]:
    """All whole rows of a log; none if there is no such file. A last line still being written is left out."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [json.loads(line) for line in file if line.endswith(b"\n")]


def _backwards(file: Any) -> Iterator[tuple[int, bytes]]:
    """The lines of a file from the last to the first, each with where it ends."""
    start = end = file.seek(0, os.SEEK_END)
    text = b""  # of the file from `start` to `end`
    while end:
        while start and b"\n" not in text[:-1]:  # its last byte ends the line, if anything does
            begin = max(0, start - _BLOCK)
            file.seek(begin)
            start, text = begin, file.read(start - begin) + text
        rest = text.rfind(b"\n", 0, -1) + 1
        yield end, text[rest:]
        end, text = start + rest, text[:rest]


def _step(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except ValueError:  # not JSON: what a power cut may leave behind the last synced row
        return float("inf")
