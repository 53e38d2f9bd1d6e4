"""How commands print: framed on a terminal, plain where another program reads."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True)


def announce(console: Console, text: str, style: str = "") -> None:
    """Say it if it can be said: who serves goes on though nobody reads, or the disk is full that was to keep it."""
    try:
        say(console, text, style)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)  # what is still to be written would fail once more at the end
        os.close(nowhere)


def show_table(title: str, rows: Sequence[tuple[str, ...]], console: Console, header: bool = False) -> None:
    """Framed on a terminal, tab-separated where another program reads. The first row may be the header."""
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*(rows[0] if header else ()), title=title, show_header=header, title_justify="left")
    for row in rows[header:]:
        table.add_row(*map(Text, row))
    console.print(table)


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """A bar on stderr, if that is a terminal; gives the function that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=total)
        yield lambda done, tokens: bars.update(bar, completed=done)
