"""The losses of reading texts: the next token, the tokens beyond it (multi-token prediction), the experts' balance."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from longjing.learning.logprobs import by_chunks
from longjing.learning.packing import Packed
from longjing.model.decoder import Decoder


@dataclass(frozen=True)
class Losses:
    """Means over the tokens they count, scalars: next token, further tokens, balance."""

    next_token: Tensor
    further: Tensor
    balance: Tensor


@dataclass(frozen=True)
class Counts:
    """What the means are over. `targets`: the tokens that count one token ahead, two ahead, ..."""

    targets: list[int]
    rows: int

    @classmethod
    def of(cls, packed: Packed, modules: int) -> Self:
        """Of a model with so many prediction modules."""
        return cls([int(ahead(packed, 1 + depth)[1].sum()) for depth in range(1 + modules)], len(packed.tokens))


def losses(model: Decoder, packed: Packed, counts: Counts | None = None, chunk: int | None = None) -> Losses:
    """The losses of packed rows (DeepSeek-V3, equations 17 to 25).

    `counts`: of the batch of which the rows are a part; the losses are then its share, and those of all parts add up.
    `chunk`: see `by_chunks`.
    """
    counts = counts or Counts.of(packed, len(model.mtp))
    context = model.context(packed.positions, segments=packed.segments)
    context.balance = []
    hidden = model.hidden(packed.tokens, context)
    first = _cross_entropy(model, hidden, packed, 1, chunk) / max(1, counts.targets[0])
    further = [torch.zeros_like(first)]
    for depth in range(len(model.mtp)):
        # Position i joins its hidden state with token i + 1 + depth, and predicts the one after that.
        width = packed.tokens.shape[1] - 1 - depth
        inner = model.context(packed.positions[:, :width], segments=packed.segments[:, :width])
        hidden = model.next_hidden(depth, packed.tokens[:, 1 + depth :], hidden[:, :width], inner)
        further.append(_cross_entropy(model, hidden, packed, 2 + depth, chunk) / max(1, counts.targets[1 + depth]))
    balance = torch.stack(context.balance).sum() if context.balance else torch.zeros_like(first)
    share = len(packed.tokens) / counts.rows
    return Losses(first, torch.stack(further).sum() / max(1, len(model.mtp)), balance * share)


def _cross_entropy(model: Decoder, hidden: Tensor, packed: Packed, distance: int, chunk: int | None) -> Tensor:
    """The sum over the tokens that count; `hidden` predicts what is `distance` ahead, its last position nothing."""
    targets, counts = ahead(packed, distance)

    def summed(hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model.head(hidden).float(), targets, reduction="sum")[None]

    return by_chunks(summed, chunk, hidden[:, :-1][counts], targets[counts]).sum()


def ahead(packed: Packed, distance: int) -> tuple[Tensor, Tensor]:
    """What stands `distance` tokens ahead: targets and whether they count, both `[rows, length - distance]`.

    A target counts if it lies in the same document and is to be learned.
    """
    same = packed.segments[:, distance:] == packed.segments[:, :-distance]
    return packed.tokens[:, distance:], same & packed.loss_mask[:, distance:]
