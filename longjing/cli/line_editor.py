"""Lines from the keyboard; the arrows bring back earlier ones, those of earlier sessions too."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from rich.console import Console

MAX_LINES = 1000  # lines of the history


def read_lines(console: Console) -> Iterator[str]:
    """What is typed, line by line, until the end of the input."""
    terminal = sys.stdin.isatty()
    history = History(history_file()) if terminal else None
    while True:
        try:
            line = input("> " if terminal else "").strip()
        except EOFError:
            console.print()
            return
        except KeyboardInterrupt:
            console.print("\n/quit or Ctrl-D leaves")
            continue
        line = line.encode(errors="replace").decode()  # a terminal may hand in halves of characters
        if line and history is not None:
            history.add(line)
        if line:
            yield line


def history_file() -> Path | None:
    """The file of the history, where the XDG base directory specification wants such a file; None for a user who has no
    home."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return state / "longjing" / "history"


class History:
    """Earlier lines, where the line editor finds them and in a file: a line of JSON each, for one may have been pasted
    with newlines. A file that can't be read or written costs the history, not the conversation."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        earlier = self._read()
        self.lines = earlier[-MAX_LINES:]
        if len(earlier) > MAX_LINES:
            self._write(self.lines, "w")
        try:
            import readline
        except ImportError:  # Windows: `input` does without
            self._editor = None
            return
        self._editor = readline
        readline.set_auto_history(False)
        readline.parse_and_bind("set enable-bracketed-paste on")  # what is pasted is one question
        for line in self.lines:
            self._recall(line)

    def add(self, line: str) -> None:
        """Remember a line, unless it is the last one again."""
        if self.lines[-1:] != [line]:
            self.lines.append(line)
            self._recall(line)
            self._write([line], "a")

    def _recall(self, line: str) -> None:
        if self._editor is not None:
            with suppress(ValueError):  # a character that the locale lacks
                self._editor.add_history(line)

    def _read(self) -> list[str]:
        rows: list[str] = []
        if self._file is not None:
            with suppress(OSError):
                rows = self._file.read_text("utf-8", errors="replace").splitlines()
        lines = []
        for row in rows:
            with suppress(ValueError):
                lines.append(json.loads(row))
        return [line for line in lines if isinstance(line, str)]

    def _write(self, rows: list[str], mode: str) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with open(self._file, mode, encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
                    file.writelines(json.dumps(row) + "\n" for row in rows)
