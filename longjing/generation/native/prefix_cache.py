"""What was computed for the beginnings of finished requests, kept for requests that begin likewise."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

BLOCK = 16  # tokens: shorter beginnings aren't worth keeping

Entries = list[Tensor]  # of every layer, `[tokens, width]`


class PrefixStore:
    """Cache entries by the tokens they belong to, at most `capacity` bytes: what wasn't used for longest goes first.

    A look-up follows a chain of hashes, block by block, to an entry that begins like the prompt, and compares the two
    token by token. What is the beginning of a newer entry is dropped, so that a conversation costs one entry.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, ...], Entries] = OrderedDict()
        self._blocks: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)  # the newest last
        self.bytes = 0

    def keep(self, tokens: Sequence[int], take: Callable[[], Entries]) -> None:
        """Keep the entries of `tokens`, which `take` copies, unless they are too few, known or too large."""
        if not self._capacity or len(tokens) < BLOCK:
            return
        key = tuple(tokens)
        length, known = self._match(key)
        if length == len(key):
            return
        entries = take()
        size = sum(map(_size, entries))
        if size > self._capacity:
            return
        if known is not None and length == len(known):
            self._drop(known)
        while self.bytes + size > self._capacity:
            self._drop(next(iter(self._kept)))
        self._kept[key] = entries
        self.bytes += size
        for block in _chain(key):
            self._blocks[block].append(key)

    def find(self, prompt: Sequence[int]) -> tuple[int, Entries]:
        """How many of the prompt's first tokens are known, and the entries of an equal beginning, which may go on."""
        length, key = self._match(tuple(prompt))
        if key is None:
            return 0, []
        self._kept.move_to_end(key)
        return length, self._kept[key]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._blocks.clear()
        self.bytes = 0

    def _match(self, prompt: tuple[int, ...]) -> tuple[int, tuple[int, ...] | None]:
        best = None
        for block in _chain(prompt):
            if block not in self._blocks:
                break
            best = self._blocks[block][-1]
        if best is None:
            return 0, None
        pairs = enumerate(zip(prompt, best, strict=False))
        length = next((place for place, (one, other) in pairs if one != other), min(len(prompt), len(best)))
        return (length, best) if length >= BLOCK else (0, None)  # hashes can be equal by chance

    def _drop(self, key: tuple[int, ...]) -> None:
        self.bytes -= sum(map(_size, self._kept.pop(key)))
        for block in _chain(key):
            self._blocks[block].remove(key)
            if not self._blocks[block]:
                del self._blocks[block]


def _chain(tokens: tuple[int, ...]) -> Iterator[int]:
    """A hash of each beginning that is whole blocks long."""
    before = 0
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        before = hash((before, tokens[end - BLOCK : end]))
        yield before


def _size(entries: Tensor) -> int:
    return entries.numel() * entries.element_size()
