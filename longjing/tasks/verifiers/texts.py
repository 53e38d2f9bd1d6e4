"""Answers that are text: the same text, one of some letters, or of the form that a regular expression describes."""

import re
from unicodedata import normalize

from pydantic import Field, field_validator

from longjing.tasks.base import Problem
from longjing.tasks.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.tasks.verifiers.pool import shared


class ExactSettings(AnswerSettings):
    case: bool = Field(True, description="whether upper and lower case differ")


class Exact(AnswerVerifier[ExactSettings]):
    """The same characters, however much white space there is between them."""

    name = "exact"
    settings_type = ExactSettings

    def compare(self, problem: Problem, answer: str) -> Judgement:
        return Judgement.of(self._plain(answer) == self._plain(problem.answer), "another answer")

    def _plain(self, text: str) -> str:
        text = " ".join(text.split())
        return text if self.options.case else text.casefold()


class ChoiceSettings(AnswerSettings):
    choices: str = Field("ABCD", pattern=r"^[A-Z]{2,26}$", description="the letters to choose from")


# `B`, `(B)`, `B.`, `\text{B}`, `**B**`, `Answer: B`, `选 B`; what follows a letter and a mark is the choice's text.
_CHOICE = re.compile(
    r"(?:the\s+)?(?:correct\s+)?(?:answer|option|choice|答案|选项|选)?\s*(?:is|是|为)?[\s:：*$(（\[]*"
    r"(?:\\(?:text|mathrm|textbf|mathbf)\s*\{)?[\s(]*([A-Z])[\s)}\]）*$.。:：]*",
    re.IGNORECASE,
)


class MultipleChoice(AnswerVerifier[ChoiceSettings]):
    """One letter, and no other."""

    name = "multiple-choice"
    settings_type = ChoiceSettings

    def compare(self, problem: Problem, answer: str) -> Judgement:
        gold, chosen = self._letter(problem.answer), self._letter(answer)
        if gold is None:
            return Judgement(
                "unjudged", 0.0, f"the gold answer is {problem.answer!r}, no letter of {self.options.choices}"
            )
        if chosen is None:
            return Judgement("wrong", 0.0, f"not one letter of {self.options.choices}")
        return Judgement.of(chosen == gold, "another choice")

    def _letter(self, text: str) -> str | None:
        match = _CHOICE.fullmatch(normalize("NFKC", text[:200]).strip())
        letter = match[1].upper() if match else ""
        return letter if letter and letter in self.options.choices else None


class RegexSettings(AnswerSettings):
    pattern: str | None = Field(
        None, description="what all of the answer must match; if not given, the problem's answer"
    )
    case: bool = Field(True, description="whether upper and lower case differ")
    seconds: float = Field(1.0, gt=0, description="that a match may take")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern


class Regex(AnswerVerifier[RegexSettings]):
    """All of the answer matches. In a process that can be stopped: backtracking may have no end."""

    name = "regex"
    settings_type = RegexSettings

    def __init__(self, settings: RegexSettings) -> None:
        super().__init__(settings)
        self.needs_answer = settings.pattern is None  # type: ignore[misc]

    def compare(self, problem: Problem, answer: str) -> Judgement:
        pattern = problem.answer if self.options.pattern is None else self.options.pattern
        matched = shared("pattern", self.options.seconds, 512).ask(pattern, answer, self.options.case)
        return Judgement.of(matched, "does not match")
