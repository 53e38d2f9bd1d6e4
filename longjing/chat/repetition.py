"""Noticing that a text goes in circles: a model that has lost its way repeats itself until it is stopped."""

import numpy as np

LONGEST = 256  # tokens of the longest circle that is noticed
_TIMES = 4  # the same tokens in a row, before it is a circle
_LEAST = 64  # tokens in all: a short one needs more turns, for `0000` and `----` are no circles


class RepetitionDetector:
    """Watches tokens as they come. `repeats` once the last of them are one block, at least four times in a row and at
    least 64 tokens long in all."""

    def __init__(self) -> None:
        # The last tokens in a ring, the newest at `_newest` and older ones behind it; twice, so that they lie in order.
        self._last, self._newest = np.full(2 * LONGEST, -1), 0
        self._runs = np.zeros(LONGEST, int)  # for how many tokens now each has been the one `period` before
        periods = np.arange(1, LONGEST + 1)
        self._needed = np.maximum((_TIMES - 1) * periods, _LEAST - periods)
        self.repeats = False

    def add(self, token: int) -> None:
        """The next token."""
        self._runs += 1
        self._runs *= self._last[self._newest : self._newest + LONGEST] == token
        self._newest = (self._newest - 1) % LONGEST
        self._last[self._newest] = self._last[self._newest + LONGEST] = token
        self.repeats = bool((self._runs >= self._needed).any())
