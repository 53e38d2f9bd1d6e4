"""A completion's text as it comes, ended by stop strings."""

from collections.abc import Sequence

from longjing.text.tokenizer import Detokenizer, Tokenizer


class TextStream:
    """Detokenises and watches for stop strings, over token boundaries.

    `text` grows by what is certain: the beginning of a stop string waits until it turns out to be none.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._detokenizer, self._stops = Detokenizer(tokenizer), stops
        self.text = ""
        self._held = ""

    def add(self, token: int) -> bool:
        """Take in a token; True if it completed a stop string, which `text` then ends before."""
        self._held += self._detokenizer.add(token)
        found = [at for at in map(self._held.find, self._stops) if at >= 0]
        if found:
            self.text, self._held = self.text + self._held[: min(found)], ""
            return True
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        certain = len(self._held) - keep
        self.text, self._held = self.text + self._held[:certain], self._held[certain:]
        return False

    def finish(self) -> None:
        """No more tokens come, and no stop string did: what was held back is text."""
        self.text, self._held = self.text + self._held + self._detokenizer.flush(), ""

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of what is held that `stop` begins with."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
