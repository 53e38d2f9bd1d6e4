"""Cutting texts of different lengths into batches that a budget of tokens bounds."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def in_order(items: Iterable[T], size: Callable[[T], int], budget: int) -> list[list[T]]:
    """Batches of items as they come, each of at most `budget` tokens with its padding. One that is larger than the
    budget makes a batch by itself."""
    batches: list[list[T]] = []
    widest = 0
    for item in items:
        widest = max(widest, size(item))
        if not batches or (len(batches[-1]) + 1) * widest > budget:
            batches.append([])
            widest = size(item)
        batches[-1].append(item)
    return batches


def by_length(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Batches of indices, the longest first, so that those of similar sizes are padded together."""
    return in_order(sorted(range(len(sizes)), key=lambda index: -sizes[index]), sizes.__getitem__, budget)
