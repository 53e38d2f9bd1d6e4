"""Policy objectives: GRPO as R1-Zero uses it, and its variants, as pure functions of tensors.

With the ratio r = pi(token) / pi_old(token) and the advantage A of the token's completion:

    loss = sum over tokens of  weight * (kl * k3 - gain(r, A))

The gain is what tells the kinds apart (`surrogates.py`). The weights hold the normalisation; they are computed
once for all completions of an optimiser step (`token_weights`), so the losses of its microbatches, in any
split, add up to the loss of the whole: one denominator by construction. Statistics are sums, so they do too.

Dr. GRPO and DAPO differ from GRPO in settings only (`presets.py`).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.learning.kl import k3
from longjing.learning.policy_batch import PolicyBatch, cleared
from longjing.learning.surrogates import SURROGATES, Objective

Aggregation = Literal["tokens", "sequences", "constant"]


@dataclass(frozen=True)
class PolicyStatistics:
    """What happened in a microbatch: scalars, detached, on its device; sums, so that microbatches add up.

    `loss`: its share of the step's loss; `tokens`: how many were learned from; `clipped`: those of them whose
    ratio was limited; `kl`: the sum of k3 (0 without a reference); `ratio`: the sum of ratios;
    `logprob_distance`: the sum of |log pi - log pi_old|, `logprob_difference`: the greatest, the one maximum among the
    sums.
    """

    loss: Tensor
    tokens: Tensor
    clipped: Tensor
    kl: Tensor
    ratio: Tensor
    logprob_distance: Tensor
    logprob_difference: Tensor

    def __add__(self, other: "PolicyStatistics") -> "PolicyStatistics":
        sums = {name: value + getattr(other, name) for name, value in vars(self).items()}
        difference = torch.maximum(self.logprob_difference, other.logprob_difference)
        return PolicyStatistics(**sums | {"logprob_difference": difference})

    def means(self) -> dict[str, float]:
        """The loss, and per token the KL, the clip share and the ratio; and the greatest difference."""
        tokens = max(int(self.tokens), 1)
        return {
            "loss": float(self.loss),
            "kl": float(self.kl) / tokens,
            "clip_share": float(self.clipped) / tokens,
            "ratio": float(self.ratio) / tokens,
            "logprob_difference_mean": float(self.logprob_distance) / tokens,
            "logprob_difference": float(self.logprob_difference),
        }


@dataclass(frozen=True)
class PolicyLoss:
    """`loss`: a scalar to call `backward` on; `statistics`: what to log of it."""

    loss: Tensor
    statistics: PolicyStatistics


def policy_loss(batch: PolicyBatch, objective: Objective) -> PolicyLoss:
    """The loss of one microbatch, to be added to those of the step's other microbatches.

    Raises ValueError if the objective weighs a divergence and the batch has no reference.
    """
    if objective.kl and batch.reference_logprobs is None:
        raise ValueError("an objective with kl > 0 needs reference_logprobs")
    batch = cleared(batch)
    surrogate = SURROGATES[objective.kind](batch, objective)
    per_token = -surrogate.gain
    divergence = torch.zeros_like(per_token)
    if batch.reference_logprobs is not None:
        divergence = k3(batch.logprobs, batch.reference_logprobs)
    if objective.kl:
        per_token = per_token + objective.kl * divergence
    loss = (batch.weights * per_token).sum()
    distances = (batch.logprobs - batch.old_logprobs).detach().abs()
    statistics = PolicyStatistics(
        loss=loss.detach(),
        tokens=batch.mask.sum(),
        clipped=surrogate.clipped.sum(),
        kl=divergence.detach().sum(),
        ratio=surrogate.ratio.detach().masked_fill(~batch.mask, 0).sum(),
        logprob_distance=distances.sum(),
        logprob_difference=distances.max(),
    )
    return PolicyLoss(loss, statistics)


def token_weights(mask: Tensor, aggregation: Aggregation, max_tokens: int | None = None) -> Tensor:
    """The weight of each token's loss, float32 `[completions, length]`, 0 outside `mask` (bool, same shape).

    `mask` must hold every completion of the optimiser step, of all microbatches and ranks. A row without a
    token isn't counted: leave out zero-variance groups and samples not judged, or clear their rows, first.

    `tokens`: 1 / all tokens, so that every token weighs the same (DAPO, arXiv 2503.14476, section 3.3).
    `sequences`: 1 / (completions * own length), the mean of each completion's mean (GRPO as published); a
    token of a long wrong answer then costs less than one of a short wrong answer.
    `constant`: 1 / (completions * `max_tokens`), with `max_tokens` the longest completion allowed (Dr. GRPO,
    arXiv 2503.20783, section 3.2). Raises UserError if that isn't given.
    """
    lengths = mask.sum(dim=1, keepdim=True)
    completions = (lengths > 0).sum()
    if aggregation == "tokens":
        denominator = lengths.sum()
    elif aggregation == "sequences":
        denominator = completions * lengths
    elif aggregation == "constant":
        if not max_tokens:
            raise UserError("aggregation 'constant' needs max_tokens: give the longest completion allowed")
        denominator = completions * max_tokens
    else:
        raise UserError(f"aggregation {aggregation!r} is unknown; choose tokens, sequences or constant")
    return mask.float() / denominator.clamp(min=1)
