"""Answers that are text: the same text, one of some letters, or of the form that a regular expression describes."""

import re
from unicodedata import normalize

from pydantic import Field, field_validator

from longjing.problems import Problem
from longjing.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.verifiers.pool import shared


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


_LONGEST_CHOICE = 2_000  # characters; what follows says nothing that a choice's text could


class ChoiceSettings(AnswerSettings):
    choices: str = Field("ABCD", pattern=r"^[A-Z]{2,26}$", description="the letters to choose from")


# `B`, `(B)`, `\text{B}`, `**B**`, `Answer: B`, `选 B`; behind a letter and a mark the choice's own text, `B. 12`.
_LEAD = re.compile(
    r"(?:the )?(?:correct )?(?:answer|option|choice|答案|选项|[故应]?选)? ?(?:is|是|为)? ?[:：]? ?", re.IGNORECASE
)
_STYLE = re.compile(r"\\(?:text|mathrm|textbf|mathbf|boldsymbol|boxed)[ ]?\{|[{}$*`]|\\[ ,;:!]")
_LETTER = re.compile(
    r"(?:[(（\[] ?([A-Z]) ?[)）\]]|([A-Z]) ?([)）\].:：。、]|[-–] ))(.*)|([A-Z])", re.IGNORECASE | re.DOTALL
)
# What makes another statement of a letter, where the choice's text would stand; that begins with a capital, as in
# `B. Wrong, Not wrong`.
_SECOND_STATEMENT = re.compile(
    r"(?:is|isn't|are|or|and|nor|but|not|no,|wrong|incorrect|OR|AND|或|和|不对(?!称))(?![A-Za-z])"
    r"|[A-Za-z](?: ?[,/;&] ?[A-Za-z]){0,26}[.)]?$"
)
_ANOTHER = re.compile(r"(?:^|[ ,;(\[])([A-Z])(?:[):：]| ?[.] )")


class MultipleChoice(AnswerVerifier[ChoiceSettings]):
    """One letter, and no other; the choice's text may follow it, as in `B. 12`."""

    name = "multiple-choice"
    settings_type = ChoiceSettings

    def compare(self, problem: Problem, answer: str) -> Judgement:
        gold, chosen, choices = self._letter(problem.answer), self._letter(answer), self.options.choices
        if gold is None:
            return Judgement("unjudged", 0.0, f"the gold answer is {problem.answer!r}, no letter of {choices}")
        if chosen is None:
            return Judgement("wrong", 0.0, f"not one letter of {choices}")
        return Judgement.of(chosen == gold, "another choice")

    def _letter(self, text: str) -> str | None:
        """The letter that the text chooses, None if it chooses none or several."""
        text = " ".join(_STYLE.sub(" ", normalize("NFKC", text[:_LONGEST_CHOICE])).split())
        lead = _LEAD.match(text)
        match = _LETTER.fullmatch(text[lead.end() if lead else 0 :])
        if match is None:
            return None
        letter, rest = (match[1] or match[2] or match[5]).upper(), (match[4] or "").strip()
        if rest.strip(".。:： ") and (
            _SECOND_STATEMENT.match(rest) or any(other in self.options.choices for other in _ANOTHER.findall(rest))
        ):
            return None
        return letter if letter in self.options.choices else None


class RegexSettings(AnswerSettings):
    pattern: str | None = Field(
        None, description="what all of the answer must match; if not given, the problem's answer"
    )
    case: bool = Field(True, description="whether upper and lower case differ")
    seconds: float = Field(1.0, gt=0, description="that a match may take; a text that takes longer is wrong")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return pattern


class Regex(AnswerVerifier[RegexSettings]):
    """All of the answer matches. In a process that can be stopped: backtracking may have no end, and a text that a
    pattern can't be matched with in time is wrong."""

    name = "regex"
    settings_type = RegexSettings

    def __init__(self, settings: RegexSettings) -> None:
        super().__init__(settings)
        self.needs_answer = settings.pattern is None  # type: ignore[misc]

    def compare(self, problem: Problem, answer: str) -> Judgement:
        pattern = problem.answer if self.options.pattern is None else self.options.pattern
        pool, case = shared("regex", self.options.seconds, 512), self.options.case
        # A pattern that matches nothing in time is broken; one that only this text makes backtrack without end isn't.
        return Judgement.of(pool.ask(pattern, answer, case, baseline=(pattern, "", case)), "does not match")
