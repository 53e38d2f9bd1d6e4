"""The loss of multi-token prediction: each module guesses one token further than the one before (DeepSeek-V3, section
2.2)."""

from torch import Tensor
from torch.nn import functional as F

from longjing.learning.logprobs import by_chunks
from longjing.learning.packing import Packed
from longjing.model.decoder import Decoder


def mtp_losses(model: Decoder, packed: Packed, hidden: Tensor, chunk: int | None) -> list[Tensor]:
    """The loss of each module, a sum over the tokens it counts; `hidden` `[rows, length, hidden]`: the decoder's last
    states (equations 21 to 24). Modules that are frozen, beside an adapter, are asked for none."""
    losses: list[Tensor] = []
    for depth, module in enumerate(model.mtp):
        if not next(module.parameters()).requires_grad:
            break
        # Position i joins its hidden state with token i + 1 + depth, and predicts the one after that.
        width = packed.tokens.shape[1] - 1 - depth
        inner = model.context(packed.positions[:, :width], segments=packed.segments[:, :width])
        hidden = model.next_hidden(depth, packed.tokens[:, 1 + depth :], hidden[:, :width], inner)
        losses.append(cross_entropy(model, hidden[:, :-1], *ahead(packed, 2 + depth), chunk))
    return losses


def cross_entropy(model: Decoder, hidden: Tensor, targets: Tensor, counts: Tensor, chunk: int | None) -> Tensor:
    """The summed cross-entropy of the targets that count, in nats; float32, whatever the model computes in, and by
    chunks of so many tokens (`by_chunks`)."""

    def summed(hidden: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model.head(hidden).float(), targets, reduction="sum")[None]

    return by_chunks(summed, chunk, hidden[counts], targets[counts], frozen=model.head_is_frozen).sum()


def ahead(packed: Packed, distance: int) -> tuple[Tensor, Tensor]:
    """What stands `distance` tokens ahead: targets and whether they count, both `[rows, length - distance]`.

    A target counts if it lies in the same document and is to be learned.
    """
    same = packed.segments[:, distance:] == packed.segments[:, :-distance]
    return packed.tokens[:, distance:], same & packed.loss_mask[:, distance:]
