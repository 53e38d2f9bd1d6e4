"""Surrogates: what a policy gains on the tokens that it sampled, and when a ratio is limited (GRPO, GSPO, CISPO)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.learning.importance_ratio import sequence_ratio, token_ratio
from longjing.learning.policy_batch import PolicyBatch

Kind = Literal["grpo", "cispo", "gspo"]


@dataclass(frozen=True)
class Objective:
    """Which surrogate, the range its ratio may move in (1 - `clip_low` to 1 + `clip_high`), and the weight of
    the divergence from the reference. Ratios are positive, so a `clip_low` of 1 or more leaves the low side
    open. Raises UserError for an unknown kind or a negative number.
    """

    kind: Kind = "grpo"
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in SURROGATES:
            raise UserError(f"objective {self.kind!r} is unknown; choose one of {', '.join(SURROGATES)}")
        for name in ("clip_low", "clip_high", "kl"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 0 or more")


@dataclass(frozen=True)
class Surrogate:
    """What a surrogate says of each token, `[batch, length]`: the `gain` to be maximised, the `ratio` behind it, and
    whether that was `clipped` (bool)."""

    gain: Tensor
    ratio: Tensor
    clipped: Tensor


def grpo(batch: PolicyBatch, objective: Objective) -> Surrogate:
    """min(r A, clip(r) A), token by token (DeepSeekMath, arXiv 2402.03300, equation 3; DeepSeek-R1, arXiv
    2501.12948, equation 1). A token whose ratio left the range on the side that A pushes to has no gradient.
    """
    return clipped_surrogate(token_ratio(batch), batch.advantages, objective)


def gspo(batch: PolicyBatch, objective: Objective) -> Surrogate:
    """GRPO's surrogate, but all tokens of a completion share one ratio (GSPO, arXiv 2507.18071, equations 5 to 7).
    With the weights of `sequences` this is GSPO as published."""
    return clipped_surrogate(sequence_ratio(batch), batch.advantages, objective)


def cispo(batch: PolicyBatch, objective: Objective) -> Surrogate:
    """clip(r) A log pi, with no gradient through clip(r): a token's weight is limited, but no token loses its
    gradient (CISPO; MiniMax-M1, arXiv 2506.13585, equations 4 and 5). Its value is not 0 on policy."""
    ratio = token_ratio(batch).detach()
    bounded = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high)
    return Surrogate(bounded * batch.advantages * batch.logprobs, ratio, bounded != ratio)


def clipped_surrogate(ratio: Tensor, advantages: Tensor, objective: Objective) -> Surrogate:
    """min(r A, clip(r) A) of ratios and advantages `[batch, length]` (PPO, arXiv 1707.06347, equation 7)."""
    free = ratio * advantages
    bounded = ratio.clamp(1 - objective.clip_low, 1 + objective.clip_high) * advantages
    return Surrogate(torch.minimum(free, bounded), ratio, bounded < free)


SURROGATES: dict[Kind, Callable[[PolicyBatch, Objective], Surrogate]] = {"grpo": grpo, "cispo": cispo, "gspo": gspo}
