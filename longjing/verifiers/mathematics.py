"""Whether two mathematical answers say the same: rules, and `math-verify` with SymPy where those know nothing.

All of it (`equality/`) happens in a process that is killed at its time, since neither a pattern nor computer algebra
can be stopped within the trainer. Only numbers without any ado are compared here.
"""

import re
from decimal import Decimal
from functools import cache
from importlib.util import find_spec

from pydantic import Field

from longjing.errors import UserError
from longjing.problems import Problem
from longjing.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.verifiers.pool import AnswerError, VerifierError, shared

_LONGEST = 2_000  # characters of an answer; no right one has been seen that is longer
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?", re.ASCII)


@cache
def _installed() -> bool:
    return find_spec("math_verify") is not None


class Algebra:
    """Compares answers, each pair in at most `seconds`; of all threads and tasks that use it, the processes are shared.

    Raises UserError where `math-verify` isn't installed.
    """

    def __init__(self, seconds: float = 5.0, megabytes: int = 1024) -> None:
        if not _installed():
            raise UserError("judging mathematics needs math-verify: pip install 'longjing[eval]'")
        self.pool = shared("mathematics", seconds, megabytes)

    def equal(self, gold: str, answer: str) -> bool:
        """Whether `answer` says what `gold` says; an answer that can't be judged doesn't. Raises VerifierError if the
        gold can't be."""
        return self.judge(gold, answer).outcome == "correct"

    def judge(self, gold: str, answer: str) -> Judgement:
        """The judgement with its reason. Raises VerifierError if the gold can't be judged."""
        if not answer.strip() or len(answer) > _LONGEST:
            return Judgement.of(False, f"the answer has over {_LONGEST} characters" if answer.strip() else "no answer")
        if len(gold) > _LONGEST:
            raise VerifierError(f"the gold answer has over {_LONGEST} characters")
        if gold == answer:
            return Judgement("correct", 1.0, "correct")
        if _NUMBER.fullmatch(gold) and _NUMBER.fullmatch(answer):
            return Judgement.of(Decimal(gold) == Decimal(answer), "another answer")
        try:
            return Judgement.of(self.pool.ask(gold, answer, baseline=(gold,)), "another answer")
        except AnswerError as error:
            return Judgement("wrong", 0.0, str(error))


class MathSettings(AnswerSettings):
    seconds: float = Field(5.0, gt=0, description="that a verdict may take; an answer that takes longer is wrong")
    megabytes: int = Field(1024, ge=256, description="that its process may take")


class Math(AnswerVerifier[MathSettings]):
    """Mathematics in LaTeX: numbers, expressions, equations, sets, intervals, matrices."""

    name = "math"
    settings_type = MathSettings

    def __init__(self, settings: MathSettings) -> None:
        super().__init__(settings)
        self._algebra = Algebra(settings.seconds, settings.megabytes)
        self.concurrency = self._algebra.pool.size

    def compare(self, problem: Problem, answer: str) -> Judgement:
        return self._algebra.judge(problem.answer, answer)
