"""What one sees while a recipe runs: a bar, a line of what matters, measurements and advice as they come.

On a terminal the bar and the line stay in place; elsewhere the line is printed every few seconds. Within a step it is
said how far that is: on the terminal at once, elsewhere every half minute.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from longjing.learning.advice import EXACT, diagnose
from longjing.learning.stage import StageKind
from longjing.planning.bill import duration
from longjing.runs import Watcher
from longjing.runs.figures import figures, seconds_left, steps_done, unjudged
from longjing.runs.jsonl import Row

_PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal
_QUIET = 30.0  # seconds without a line, after which one says how far a step is
_SILENCE = 50  # steps before the same advice is given again


class StageProgress(Watcher):
    """Looks on while one stage works. `rows`: its metrics so far, if it is resumed.

    `kind` None: a measurement, which is no stage. `steps` None: how many there are is known when the stage has read its
    data, and stands in its metrics.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        kind: StageKind | None,
        steps: int | None,
        rows: list[Row],
        tolerance: float = EXACT,
    ) -> None:
        self._console, self._name, self._given = console, name, steps
        self._advice, self._figures = (kind.advice, kind.metrics) if kind else ((), ())
        self._tolerance, self._rows = tolerance, rows
        self._busy = self._far = ""
        self._advised: dict[str, int] = {}
        self._printed = -_PLAIN_EVERY
        self._spoke = monotonic()
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the block runs, a terminal shows the bar."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._render, refresh_per_second=4) as self._live:
            yield

    def metrics(self, row: Row) -> None:
        # A resumed stage repeats the steps that were logged but not saved.
        self._rows = [*(earlier for earlier in self._rows if earlier["step"] < row["step"]), row]
        self._busy = self._far = ""
        if self._live is None and (monotonic() - self._printed >= _PLAIN_EVERY or self._done == self._steps):
            self._printed = monotonic()
            self._say(f"{self._name} {self._counted}  {self._headline}{self._left()}")
        for advice in diagnose(self._advice, self._rows, self._tolerance):
            if row["step"] - self._advised.get(advice.topic, -_SILENCE) >= _SILENCE:
                self._advised[advice.topic] = row["step"]
                self._say(f"note: {advice.text}", "yellow")

    def evaluation(self, row: Row) -> None:
        self._busy = self._far = ""
        score = "nothing measured"
        if row["pass_at_1"] is not None:
            score = f"{row['pass_at_1']:.1%} right ({row['low']:.1%} to {row['high']:.1%}{unjudged(row)})"
        of = f"{row['problems']} {row['split']} problems of {row['task']}"
        self._say(f"{self._name} after {row['step'] + 1} steps: {score}, {of}", "bold")

    def status(self, text: str) -> None:
        self._busy, self._far = text, ""
        if self._live is None:
            self._say(f"{self._name}: {text}")

    def sampled(self, done: int, number: int, tokens: int) -> None:
        self._progress(f"{done} of {number} completions sampled, {tokens:,} tokens")

    def updated(self, done: int, number: int) -> None:
        self._progress(f"{done} of {number} completions learned from")

    def _progress(self, text: str) -> None:
        self._far = text
        if self._live is None and monotonic() - self._spoke >= _QUIET:
            self._say(f"{self._name} {self._counted}".rstrip() + f"  {text}")

    @property
    def _done(self) -> int:
        return steps_done(self._rows)

    @property
    def _steps(self) -> int | None:
        return self._rows[-1].get("steps", self._given) if self._rows else self._given

    @property
    def _counted(self) -> str:
        """Nothing, where nothing is counted: a measurement has no steps."""
        return f"{self._done}/{self._steps}" if self._steps else str(self._done or "")

    @property
    def _headline(self) -> str:
        return "  ".join(f"{label} {value}" for label, value in figures(self._figures, self._rows))

    def _say(self, text: str, style: str = "") -> None:
        self._spoke = monotonic()
        self._console.print(Text(text, style), soft_wrap=True)

    def _left(self) -> str:
        seconds = seconds_left(self._rows, self._steps)
        return "" if seconds is None else f"  {duration(seconds)} left"

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1))
        bar = ProgressBar(self._steps, self._done, width=24)
        table.add_row(Text(self._name, "bold"), bar, Text(f"{self._counted}{self._left()}"))
        lines = Table.grid()
        lines.add_row(table)
        lines.add_row(Text(self._busy or self._headline, "cyan", overflow="ellipsis", no_wrap=True))
        if self._far:
            lines.add_row(Text(self._far, "dim", overflow="ellipsis", no_wrap=True))
        return lines
