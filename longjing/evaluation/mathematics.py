"""Whether two answers in LaTeX say the same, by `math-verify`, in a process of its own.

A model may write anything, `9^{9^{9^9}}` for one, and computer algebra will try: only another process can be
stopped at any moment, and can fall over without harm.
"""

import json
import select
import subprocess
import sys
import weakref
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from longjing.errors import UserError

_PROGRAM = Path(__file__).with_name("mathematics_worker.py")
_START = 60.0  # seconds that computer algebra may take to load


class VerifierError(Exception):
    """The verifier itself failed: nothing is known about the answer."""


class MathVerifier:
    """Compares answers, each pair once, in at most `seconds`.

    Raises UserError where `math-verify` isn't installed. Used from one thread.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        if find_spec("math_verify") is None:
            raise UserError("judging mathematics needs math-verify: pip install 'longjing[eval]'")
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._known: dict[tuple[str, str], bool | VerifierError] = {}

    def equal(self, gold: str, answer: str) -> bool:
        """Whether `answer` says what `gold` says. Raises VerifierError if nobody knows."""
        if (gold, answer) not in self._known:
            try:
                self._known[gold, answer] = self._ask(gold, answer)
            except VerifierError as error:  # remembered, too: many samples may say the same
                self._known[gold, answer] = error
        verdict = self._known[gold, answer]
        if isinstance(verdict, VerifierError):
            raise verdict
        return verdict

    def _ask(self, gold: str, answer: str) -> bool:
        if self._process is None:
            self._process = subprocess.Popen(
                # -P: or the modules of this folder would hide those of the standard library.
                [sys.executable, "-P", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            weakref.finalize(self, _stop, self._process)
            self._hear(_START, "starting")
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it fell over meanwhile, which shows when it is heard
            self._process.stdin.write(json.dumps([gold, answer]) + "\n")
            self._process.stdin.flush()
        return bool(self._hear(self._seconds, f"comparing {answer[:100]!r} with {gold!r}"))

    def _hear(self, seconds: float, task: str) -> object:
        """The worker's next line. One that is late or gone is replaced at the next question."""
        assert self._process is not None and self._process.stdout is not None
        heard, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if heard else ""
        if not line:
            _stop(self._process)
            self._process = None
            raise VerifierError(f"math-verify {'failed' if heard else f'took over {seconds:g} s'} {task}")
        return json.loads(line)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()
