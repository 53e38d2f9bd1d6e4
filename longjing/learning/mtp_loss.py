"""The losses of reading texts: the next token, the tokens beyond it (multi-token prediction), the experts' balance."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from longjing.learning.packing import Packed
from longjing.model.decoder import Decoder


@dataclass(frozen=True)
class Losses:
    """Means over the tokens they count, scalars: next token, further tokens, balance."""

    next_token: Tensor
    further: Tensor
    balance: Tensor


def losses(model: Decoder, packed: Packed) -> Losses:
    """The losses of one batch of packed rows (DeepSeek-V3, equations 17 to 25). Modules for further tokens that are
    frozen have none."""
    context = model.context(packed.positions, segments=packed.segments)
    context.balance = []
    hidden = model.hidden(packed.tokens, context)
    targets, counts = ahead(packed, 1)
    first = _cross_entropy(model, hidden[:, :-1], targets, counts)
    further = [torch.zeros_like(first)]
    for depth, module in enumerate(model.mtp):
        if not next(module.parameters()).requires_grad:  # beside an adapter nothing is asked of them
            break
        # Position i joins its hidden state with token i + 1 + depth, and predicts the one after that.
        width = packed.tokens.shape[1] - 1 - depth
        inner = model.context(packed.positions[:, :width], segments=packed.segments[:, :width])
        hidden = model.next_hidden(depth, packed.tokens[:, 1 + depth :], hidden[:, :width], inner)
        targets, counts = ahead(packed, 2 + depth)
        further.append(_cross_entropy(model, hidden[:, :-1], targets, counts))
    balance = torch.stack(context.balance).sum() if context.balance else torch.zeros_like(first)
    return Losses(first, torch.stack(further).sum() / max(1, len(model.mtp)), balance)


def _cross_entropy(model: Decoder, hidden: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    return F.cross_entropy(model.head(hidden[counts]).float(), targets[counts])


def ahead(packed: Packed, distance: int) -> tuple[Tensor, Tensor]:
    """What stands `distance` tokens ahead: targets and whether they count, both `[rows, length - distance]`.

    A target counts if it lies in the same document and is to be learned.
    """
    same = packed.segments[:, distance:] == packed.segments[:, :-distance]
    return packed.tokens[:, distance:], same & packed.loss_mask[:, distance:]
