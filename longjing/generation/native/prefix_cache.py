"""Prefix caching: what was computed for the beginnings of finished requests, for requests that begin likewise."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

BLOCK = 16  # tokens: shorter beginnings aren't worth keeping

Entries = list[Tensor]  # of every layer, `[tokens, width]`


class PrefixCache:
    """Cache entries by the tokens they belong to, at most `capacity` bytes: what wasn't used for longest goes first.

    A look-up follows a chain of hashes, block by block, to an entry that begins like the prompt, and compares the two
    token by token. What is the beginning of a newer entry is dropped, so that a conversation costs one entry.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[tuple[int, ...], Entries] = OrderedDict()
        self._blocks: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)  # the newest last
        self.bytes = 0

    def insert(self, tokens: Sequence[int], extract: Callable[[], Entries]) -> None:
        """Keep the entries of `tokens`, which `extract` copies, unless they are few, too large, or there already."""
        if not self.capacity or len(tokens) < BLOCK:
            return
        key = tuple(tokens)
        length, match = self._longest(key)
        if length == len(key):
            return
        entries = extract()
        size = sum(layer.nbytes for layer in entries)
        if size > self.capacity:
            return
        if match is not None and length == len(match):  # it is the beginning of the new one
            self._drop(match)
        # An OrderedDict that `match` moves to its end is in the order of use: the first is the stalest.
        while self.bytes + size > self.capacity:
            self._drop(next(iter(self._kept)))
        self._kept[key] = entries
        self.bytes += size
        for block in _chain(key):
            self._blocks[block].append(key)

    def match(self, prompt: Sequence[int]) -> tuple[int, Entries]:
        """How many of the prompt's first tokens are cached, and their entries, which may go on behind them."""
        length, key = self._longest(tuple(prompt))
        if key is None:
            return 0, []
        self._kept.move_to_end(key)
        return length, self._kept[key]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._blocks.clear()
        self.bytes = 0

    def _longest(self, prompt: tuple[int, ...]) -> tuple[int, tuple[int, ...] | None]:
        """The key that begins like the prompt for most blocks, and how many tokens the two share; or 0 and None."""
        best = None
        for block in _chain(prompt):
            if block not in self._blocks:
                break
            best = self._blocks[block][-1]  # the newest: a conversation goes on from its last turn
        if best is None:
            return 0, None
        length = 0
        while length < min(len(prompt), len(best)) and prompt[length] == best[length]:
            length += 1
        return (length, best) if length >= BLOCK else (0, None)  # hashes can be equal by chance

    def _drop(self, key: tuple[int, ...]) -> None:
        self.bytes -= sum(layer.nbytes for layer in self._kept.pop(key))
        for block in _chain(key):
            self._blocks[block].remove(key)
            if not self._blocks[block]:
                del self._blocks[block]


def _chain(tokens: tuple[int, ...]) -> Iterator[int]:
    """A hash of each beginning that is a number of blocks long."""
    previous = 0
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        # Of the hash before, so that equal blocks in different places don't meet.
        previous = hash((previous, tokens[end - BLOCK : end]))
        yield previous
