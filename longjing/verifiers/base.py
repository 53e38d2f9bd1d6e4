"""What a verifier is: it looks at a problem and a completion, and says what the completion is worth."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from longjing.problems import Completion, Problem, boxed
from longjing.verifiers.pool import AnswerError, VerifierError

LONGEST = 20_000  # characters of a final answer; what is longer is none


@dataclass(frozen=True)
class Judgement:
    """`score`: from 0 to 1, what it is worth as a reward; `reason`: what is wrong. `unjudged`: nobody knows."""

    outcome: Literal["correct", "wrong", "unjudged"]
    score: float
    reason: str

    @classmethod
    def of(cls, right: bool, mistake: str) -> "Judgement":
        """Correct, or wrong because of the mistake."""
        return cls("correct", 1.0, "correct") if right else cls("wrong", 0.0, mistake)


class VerifierSettings(BaseModel):
    """What every verifier's settings are like."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


S = TypeVar("S", bound=VerifierSettings)


class Verifier(ABC, Generic[S]):
    """`decides`: it says whether the answer is right, rather than what form it has. `needs_answer`: the problem must
    come with a right answer. `concurrency`: how many verdicts may well be asked for at once."""

    name: ClassVar[str]
    settings_type: ClassVar[type[VerifierSettings]]
    decides: ClassVar[bool] = True
    needs_answer: ClassVar[bool] = True
    concurrency: int = 1

    def __init__(self, settings: S) -> None:
        """A verifier with these settings. Raises UserError if something is missing that the settings need."""
        self.options = settings

    @abstractmethod
    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        """The judgement of a completion, in bounded time; never raises, whatever the completion says."""


class AnswerSettings(VerifierSettings):
    """The settings that say where the final answer is."""

    final: Literal["box", "text"] = Field(
        "box", description="what the one box holds, or all that follows the reasoning"
    )


A = TypeVar("A", bound=AnswerSettings)


class AnswerVerifier(Verifier[A]):
    """Looks at the final answer only. A completion that was cut off has none."""

    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        if completion.truncated:
            return Judgement("wrong", 0.0, "truncated")
        answer = boxed(completion.answer) if self.options.final == "box" else completion.answer.strip()
        if answer is None:
            return Judgement("wrong", 0.0, "the answer does not hold exactly one \\boxed{...}")
        if not answer or len(answer) > LONGEST:
            return Judgement("wrong", 0.0, f"the answer has over {LONGEST} characters" if answer else "no answer")
        try:
            return self.compare(problem, answer)
        except AnswerError as error:
            return Judgement("wrong", 0.0, str(error))
        except VerifierError as error:
            return Judgement("unjudged", 0.0, str(error))

    @abstractmethod
    def compare(self, problem: Problem, answer: str) -> Judgement:
        """Judge the answer, which isn't empty. Raises AnswerError if judging fails and the answer is to blame, and
        VerifierError if the gold or the verifier is."""


RubricSpec = str | Mapping[str, float | Mapping[str, Any]]
