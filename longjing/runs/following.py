"""Reading the logs of a run while it works: each line once, however often one looks."""

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from longjing.runs import migration
from longjing.runs.jsonl import Row

_TAIL = 256  # bytes that tell one line from another
_HEAD = re.compile(rb'\{"step": (-?\d+), "problem": "(\w+)"')


class Following(ABC):
    """A log that grows. A line that is still being written waits; if the log was cut back or begun again (a run that
    was resumed), all of it is taken again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = 0  # of what was taken
        self._tail = b""  # its last bytes, which must still stand there

    def refresh(self) -> bool:
        """Take what is new; True if there was anything, or what had been taken is no more."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return self._restart()
        with file:
            file.seek(self._end - len(self._tail))
            changed = file.read(len(self._tail)) != self._tail and self._restart()
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._take(self._end, line)
                self._end, self._tail, changed = self._end + len(line), line[-_TAIL:], True
        return changed

    def _restart(self) -> bool:
        """Whether anything had been taken."""
        had, self._end, self._tail = self._end > 0, 0, b""
        self._forget()
        return had

    @abstractmethod
    def _take(self, start: int, line: bytes) -> None:
        """A line that is whole, and where it starts."""

    @abstractmethod
    def _forget(self) -> None:
        """All that was taken is no more."""


class Rows(Following):
    """The rows of a small log. What isn't JSON (a power cut may leave it) is passed over, as resuming will."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.rows: list[Row] = []

    def _take(self, start: int, line: bytes) -> None:
        row = _row(line)
        if row is not None:
            self.rows.append(migration.metrics(row))

    def _forget(self) -> None:
        self.rows = []


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the line of one group stands in rollouts.jsonl."""

    step: int
    problem: str
    start: int
    size: int


class RolloutIndex(Following):
    """Where each group of rollouts.jsonl stands, by step: the file may be far larger than what one looks at."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.steps: dict[int, list[Entry]] = {}

    def row(self, entry: Entry) -> Row | None:
        """The group itself; None if it isn't there any more."""
        try:
            with self.path.open("rb") as file:
                file.seek(entry.start)
                row = _row(file.read(entry.size))
        except FileNotFoundError:
            return None
        return row if row and (row.get("step"), str(row.get("problem"))) == (entry.step, entry.problem) else None

    def _take(self, start: int, line: bytes) -> None:
        # As it is written: the rest, a hundred times longer, needn't be understood.
        if head := _HEAD.match(line):
            step, problem = int(head[1]), head[2].decode()
        elif (row := _row(line)) and isinstance(row.get("step"), int):
            step, problem = row["step"], str(row.get("problem"))
        else:
            return
        self.steps.setdefault(step, []).append(Entry(step, problem, start, len(line)))

    def _forget(self) -> None:
        self.steps = {}


def _row(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
