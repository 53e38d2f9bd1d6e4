"""Noticing that a text goes in circles: a model that has lost its way repeats itself until it is stopped."""

import numpy as np

LONGEST = 256  # tokens of the longest circle that is noticed
_TIMES = 4  # the same tokens in a row, before it is a circle
_LEAST = 64  # tokens in all: a short one needs more turns, for `0000` and `----` are no circles


class Circles:
    """Watches tokens as they come. `found` once the last of them are one block, at least four times in a row and at
    least 64 tokens long in all."""

    def __init__(self) -> None:
        self._last = np.full(LONGEST, -1)  # the last tokens, in a ring
        self._count = 0
        self._runs = np.zeros(
            LONGEST, dtype=int
        )  # for how many tokens now each has been the one `period` before
        periods = np.arange(1, LONGEST + 1)
        self._needed = np.maximum((_TIMES - 1) * periods, _LEAST - periods)
        self._ages = np.arange(LONGEST)
        self.found = False

    def add(self, token: int) -> None:
        """The next token."""
        newest_first = self._last[(self._count - 1 - self._ages) % LONGEST]
        self._runs = (self._runs + 1) * (newest_first == token)
        self._last[self._count % LONGEST] = token
        self._count += 1
        self.found = bool((self._runs >= self._needed).any())
