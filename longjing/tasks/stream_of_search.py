"""Countdown as Stream of Search plays it (Gandhi et al., arXiv 2404.03683), to be compared with what others report.

Four numbers below 100, targets from 10 to 100, every number used once, an exact result. Targets are held out: those
of the test split were never met with any numbers. The published model of 250 million parameters solves 51.27% of
such problems, and 25.73% if it has read nothing but optimal paths. With three numbers it is easier, and no longer
that paper's game.
"""

from typing import ClassVar

from pydantic import Field

from longjing.tasks.countdown import Countdown, CountdownData, CountdownSettings

_GAME = {"numbers": 4, "largest": 99, "smallest_target": 10, "largest_target": 100}


class StreamOfSearchSettings(CountdownSettings):
    """The easiest difficulty has three numbers, for learning to search; all others are the game."""

    dial: ClassVar = {1: {**_GAME, "numbers": 3}, **dict.fromkeys(range(2, 6), _GAME)}

    numbers: int = Field(ge=3, le=4)


class StreamOfSearch(Countdown):
    name = "stream-of-search"
    settings_type = StreamOfSearchSettings

    def apart(self, data: CountdownData) -> str:
        return f"{self.name} target {data.target}"
