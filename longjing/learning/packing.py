"""Several documents in one row, none seeing another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MISSES = 8


@dataclass(frozen=True)
class Packed:
    """Rows of packed documents, all `[rows, length]`. Segment 0 is padding; positions count in a document.

    `learns` is True where the token is to be predicted (by whatever comes before it in its document).
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    learns: Tensor

    def to(self, device: torch.device) -> "Packed":
        """The same on another device."""
        return Packed(
            *(part.to(device) for part in (self.tokens, self.positions, self.segments, self.learns))
        )


def pack(documents: Iterable[Sequence[int]], rows: int, length: int, pad: int) -> Packed:
    """Fill `rows` rows of `length` tokens, each document whole in the first row with room for it.

    A document that fits nowhere is dropped; after `_MISSES` of them the rows count as full.
    """
    tokens = torch.full((rows, length), pad)
    positions, segments = torch.zeros_like(tokens), torch.zeros_like(tokens)
    used, count, misses = [0] * rows, [0] * rows, 0
    for document in documents:
        size = len(document)
        row = next((row for row in range(rows) if used[row] + size <= length), None)
        if row is None:
            misses += 1
            if misses == _MISSES:
                break
            continue
        place = slice(used[row], used[row] + size)
        count[row] += 1
        tokens[row, place] = torch.tensor(document)
        positions[row, place] = torch.arange(size)
        segments[row, place] = count[row]
        used[row] += size
    return Packed(tokens, positions, segments, (segments > 0) & (positions > 0))


def ahead(packed: Packed, distance: int) -> tuple[Tensor, Tensor]:
    """What stands `distance` tokens ahead: targets and whether they count, both `[rows, length - distance]`.

    A target counts if it lies in the same document and is to be learned.
    """
    same = packed.segments[:, distance:] == packed.segments[:, :-distance]
    return packed.tokens[:, distance:], same & packed.learns[:, distance:]
