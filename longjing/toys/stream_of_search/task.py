"""Countdown as Stream of Search plays it (Gandhi et al., arXiv 2404.03683), to be compared with what others report.

Four numbers below 100, targets from 10 to 100, every number used once, an exact result, and nothing but natural numbers
(zero among them) on the way: a subtraction never goes below zero, a division leaves nothing over. Targets are held out:
those of the test split were never met with any numbers. The published model of 250 million parameters solves 51.27% of
such problems, and 25.73% if it has read nothing but optimal paths. With three numbers it is easier, and no longer
that paper's game.
"""

from typing import ClassVar, Literal

from pydantic import Field

from longjing.problems.expression import parse_expression, plain
from longjing.toys.countdown.task import Countdown, CountdownData, CountdownSettings

_GAME = {"numbers": 4, "largest": 99, "smallest_target": 10, "largest_target": 100}


class StreamOfSearchSettings(CountdownSettings):
    """The easiest difficulty has three numbers, for learning to search; all others are the game."""

    difficulties: ClassVar = {1: {**_GAME, "numbers": 3}, **dict.fromkeys(range(2, 6), _GAME)}
    judge_settings: ClassVar = frozenset({"intermediate"})

    numbers: int = Field(ge=3, le=4)
    intermediate: Literal["natural", "any"] = Field(
        "natural", description="the values that may occur on the way; `any`: negative ones and fractions, too"
    )


class StreamOfSearch(Countdown):
    """Countdown by that paper's rule, with targets that are held out."""

    name = "stream-of-search"
    settings_type: ClassVar[type[CountdownSettings]] = StreamOfSearchSettings
    options: StreamOfSearchSettings

    def split_key(self, data: CountdownData) -> str:
        return f"{self.name} target {data.target}"

    def mistake(self, data: CountdownData, answer: str) -> str | None:
        """An expression counts as it is written: `3-5+4` goes through -2, `3+4-5` doesn't."""
        if mistake := super().mistake(data, answer):
            return mistake
        if self.options.intermediate == "natural":
            for value in parse_expression(plain(answer).partition("=")[0]).intermediates:
                if value < 0 or value.denominator > 1:
                    return f"goes through {str(value)[:40]}, and only natural numbers may occur on the way"
        return None
