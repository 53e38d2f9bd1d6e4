"""The losses of reading texts: the next token, the tokens beyond it (`mtp_loss.py`), the experts' balance."""

from dataclasses import dataclass

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


def losses(model: Decoder, packed: Packed) -> Losses:
    """The losses of one batch of packed rows (DeepSeek-V3, equations 17 to 25)."""
    context = model.context(packed.positions, segments=packed.segments)
    context.balance = []  # the routers add theirs, where somebody wants them
    hidden = model.hidden(packed.tokens, context)
    targets, counts = ahead(packed, 1)
    first = cross_entropy(model, hidden[:, :-1], targets, counts)
    further = [torch.zeros_like(first), *mtp_losses(model, packed, hidden)]
    balance = torch.stack(context.balance).sum() if context.balance else torch.zeros_like(first)
    return Losses(first, torch.stack(further).sum() / max(1, len(model.mtp)), balance)
