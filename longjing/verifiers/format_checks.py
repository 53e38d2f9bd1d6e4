"""What can be said of any completion, right or wrong: its form, its language, its length. They decide nothing where
another verifier does."""

from typing import Literal

from pydantic import Field

from longjing.problems import Completion, Problem, format_reward
from longjing.problems.language import language_reward
from longjing.verifiers.base import Judgement, Verifier, VerifierSettings


class Format(Verifier[VerifierSettings]):
    """R1's form (`problems.format_reward`)."""

    name = "format"
    settings_type = VerifierSettings
    decides = False
    needs_answer = False

    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        return Judgement.of(format_reward(completion) == 1.0, "not the form")


class LanguageSettings(VerifierSettings):
    least: float = Field(0.9, ge=0, le=1, description="share of the words that makes it correct")


class Language(Verifier[LanguageSettings]):
    """The score is the share of the words of the reasoning that are of the problem's language (`problems.language`);
    without reasoning, of the answer."""

    name = "language"
    settings_type = LanguageSettings
    decides = False
    needs_answer = False

    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        share = language_reward(problem, completion)
        right = share >= self.options.least
        return Judgement("correct" if right else "wrong", share, f"{share:.0%} of the words are {problem.language}")


class LengthSettings(VerifierSettings):
    least: int = Field(0, ge=0)
    most: int = Field(ge=1)
    of: Literal["all", "reasoning", "answer"] = "all"


class Length(Verifier[LengthSettings]):
    """So many characters. Past `most` the score falls, to 0 at twice as many; below `least` it is the share."""

    name = "length"
    settings_type = LengthSettings
    decides = False
    needs_answer = False

    def judge(self, problem: Problem, completion: Completion) -> Judgement:
        parts = {"reasoning": completion.reasoning, "answer": completion.answer}
        length = sum(len(text) for part, text in parts.items() if self.options.of in ("all", part))
        least, most = self.options.least, self.options.most
        if completion.truncated:
            return Judgement("wrong", 0.0, "truncated")
        if least <= length <= most:
            return Judgement("correct", 1.0, "correct")
        score = length / least if length < least else max(0.0, 2 - length / most)
        return Judgement("wrong", score, f"{length} characters, not {least} to {most}")
