"""Programs that have to pass tests: run in the sandbox, compared here."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cache

from longjing.tasks.sandbox import (
    CallTest,
    Limits,
    Runner,
    Sandbox,
    StdioTest,
    TestOutcome,
    judge_program,
)
from longjing.tasks.verifiers.pool import VerifierError

_REMEMBERED = 20_000  # verdicts; many samples are the same program
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)

Tests = Sequence[StdioTest | CallTest]


class Programs:
    """Judges programs in one sandbox, which is kept warm. Any number of threads may ask.

    Raises UserError where programs can't be isolated: no isolation, no execution.
    """

    def __init__(self, limits: Limits, runner: Runner | None = None) -> None:
        self._runner = runner or Sandbox(limits)
        self._known: OrderedDict[tuple[str, str], list[str]] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    @cache
    def shared(seconds: float = 2.0, megabytes: int = 256) -> Programs:
        """The one of this process with these limits, for each program."""
        return Programs(
            Limits(wall_seconds=seconds, cpu_seconds=int(seconds) + 1, memory_megabytes=megabytes)
        )

    def mistake(self, program: str, tests: Tests) -> str | None:
        """What is wrong with the program, None if it passes all tests. Raises VerifierError if nobody knows."""
        return next((mistake for mistake in self.mistakes(program, tests) if mistake), None)

    def mistakes(self, program: str, tests: Tests) -> list[str]:
        """What went wrong in each test, "" where nothing did. Raises VerifierError if nobody knows."""
        asked = (program, repr(tests))
        with self._lock:
            known = self._known.get(asked)
        if known is None:
            known = [_mistake(outcome) for outcome in judge_program(self._runner, program, tests)]
            with self._lock:
                self._known[asked] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return known


def _mistake(outcome: TestOutcome) -> str:
    if outcome.verdict == "unjudged":
        raise VerifierError(outcome.reason)
    return "" if outcome.verdict == "correct" else outcome.reason
