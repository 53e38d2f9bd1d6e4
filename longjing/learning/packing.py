"""Several documents in one row, none seeing another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longjing.data.conversations import Example

_MISSES = 8


TokenizedDocument = Example | Sequence[int]


@dataclass(frozen=True)
class Packed:
    """Rows of packed documents, all `[rows, length]`. Segment 0 is padding; positions count in a document.

    `loss_mask` is True where the token is to be predicted (by whatever comes before it in its document).
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    loss_mask: Tensor

    def to(self, device: torch.device) -> "Packed":
        """The same rows on another device."""
        return Packed(*(part.to(device) for part in vars(self).values()))

    def split(self, rows: int) -> "list[Packed]":
        """Parts of at most so many rows."""
        return list(map(Packed, *(part.split(rows) for part in vars(self).values())))


def pack(documents: Iterable[TokenizedDocument], rows: int, length: int, pad: int) -> Packed:
    """Fill `rows` rows of `length` tokens, each document whole in the first row with room for it.

    A document that fits nowhere is dropped; after `_MISSES` of them the rows count as full.
    """
    chosen: list[list[TokenizedDocument]] = [[] for _ in range(rows)]
    used, misses = [0] * rows, 0
    for document in documents:
        size = len(document)
        # First fit: little is left empty, and the order of documents stays nearly that in which they were drawn.
        row = next((row for row in range(rows) if used[row] + size <= length), None)
        if row is None:
            misses += 1
            if misses == _MISSES:
                break
            continue
        chosen[row].append(document)
        used[row] += size
    return collate(chosen, length, pad)


def collate(rows: Sequence[Sequence[TokenizedDocument]], length: int, pad: int) -> Packed:
    """Each row's documents side by side, padded to `length` tokens. Of plain tokens all are learned but the
    first, which nothing comes before."""
    tokens = torch.full((len(rows), length), pad)
    positions, segments = torch.zeros_like(tokens), torch.zeros_like(tokens)
    loss_mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, documents in enumerate(rows):
        start = 0
        for number, document in enumerate(documents, 1):
            span = slice(start, start + len(document))
            if isinstance(document, Example):
                tokens[row, span], loss_mask[row, span] = document.tokens, document.loss_mask
            else:
                tokens[row, span], loss_mask[row, span] = torch.tensor(document), True
            positions[row, span] = torch.arange(len(document))
            segments[row, span] = number
            start = span.stop
    # Whatever a document's mask says, its first token has no context to be predicted from.
    return Packed(tokens, positions, segments, loss_mask & (positions > 0))
