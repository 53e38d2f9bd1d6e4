"""A completion's text as it comes, ended by stop strings."""

from collections.abc import Sequence

from longjing.text.detokenizer import Detokenizer
from longjing.text.tokenizer import Tokenizer


class StopStrings:
    """Watches a text that comes in pieces for strings that end it.

    `text` grows by what is certain: the beginning of a stop string waits until it turns out to be none. `stopped`: one
    came, and `text` ends before it.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self.text = ""
        self.stopped = False
        self._pending = ""  # an end of the text that may yet become a stop string

    def add(self, piece: str) -> bool:
        """Take in a piece, unless it has stopped; returns whether it has now."""
        if self.stopped:
            return True
        if not self._stops:
            self.text += piece
            return False
        self._pending += piece
        starts = [start for start in map(self._pending.find, self._stops) if start >= 0]
        if starts:
            self.text += self._pending[: min(starts)]
            self._pending = ""
            self.stopped = True
            return True
        certain = len(self._pending) - max(partial_match(self._pending, stop) for stop in self._stops)
        self.text += self._pending[:certain]
        self._pending = self._pending[certain:]
        return False

    def finish(self) -> None:
        """No more comes: what was held back is text."""
        self.text += self._pending
        self._pending = ""


def partial_match(text: str, stop: str) -> int:
    """Length of the longest end of the text that `stop` begins with, without being all of it."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class TextStream:
    """What a model writes behind its prompt, tokens to text, watched for stop strings over token boundaries. `text` as
    in `StopStrings`."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._detokenizer, self._stops = Detokenizer(tokenizer, continues=True), StopStrings(stops)

    @property
    def text(self) -> str:
        return self._stops.text

    def add(self, token: int) -> bool:
        """Take in a token; returns whether a stop string has come, which `text` then ends before."""
        return self._stops.add(self._detokenizer.add(token))

    def finish(self) -> bool:
        """No more tokens come; returns whether a stop string has, if only with an unfinished character."""
        self._stops.add(self._detokenizer.flush())
        self._stops.finish()
        return self._stops.stopped
