"""The losses of reading texts: the next token, the tokens beyond it (`mtp_loss.py`), the experts' balance."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from longjing.learning.mtp_loss import ahead, cross_entropy, mtp_losses
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
    """What the means are over: rows, and the tokens that count one token ahead, two ahead, ..."""

    rows: int
    targets: list[int]

    @classmethod
    def of(cls, packed: Packed, modules: int) -> Self:
        """Of a batch, for a model with so many prediction modules."""
        return cls(len(packed.tokens), [int(ahead(packed, 1 + depth)[1].sum()) for depth in range(1 + modules)])


def losses(model: Decoder, packed: Packed, counts: Counts | None = None, chunk: int | None = None) -> Losses:
    """The losses of packed rows (DeepSeek-V3, equations 17 to 25).

    `counts`: of the batch of which the rows are a part; the losses are then its share, and those of all parts add up.
    `chunk`: see `by_chunks`.
    """
    near, *far = (counts := counts or Counts.of(packed, len(model.mtp))).targets
    context = model.context(packed.positions, segments=packed.segments)
    context.balance = []  # the routers add theirs, where somebody wants them
    hidden = model.hidden(packed.tokens, context)
    first = cross_entropy(model, hidden[:, :-1], *ahead(packed, 1), chunk) / max(1, near)
    sums = mtp_losses(model, packed, hidden, chunk)
    further = [torch.zeros_like(first), *(loss / max(1, count) for loss, count in zip(sums, far, strict=False))]
    balance = torch.stack(context.balance).sum() if context.balance else torch.zeros_like(first)
    share = len(packed.tokens) / counts.rows
    return Losses(first, torch.stack(further).sum() / max(1, len(model.mtp)), balance * share)
