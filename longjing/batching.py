"""Cutting texts of different lengths into batches that a budget of tokens bounds."""

from collections.abc import Sequence


def by_length(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Batches of indices, the longest first, of similar sizes, each of at most `budget` tokens with its padding. A text
    that is longer than the budget makes a batch by itself."""
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        if batches and (len(batches[-1]) + 1) * sizes[batches[-1][0]] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
