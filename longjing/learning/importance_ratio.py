"""Importance ratios: how much likelier the policy finds now what it once sampled."""

from torch import Tensor

from longjing.learning.policy_batch import PolicyBatch


def token_ratio(batch: PolicyBatch) -> Tensor:
    """pi(token) / pi_old(token), `[batch, length]`; 1 where the policy hasn't moved since it sampled."""
    return (batch.logprobs - batch.old_logprobs).exp()


def sequence_ratio(batch: PolicyBatch) -> Tensor:
    """(pi(y) / pi_old(y))^(1 / length) `[batch, length]`: the geometric mean of a completion's ratios, at each of its
    tokens (GSPO, arXiv 2507.18071, equation 7). A row must hold one whole completion."""
    log_ratio = (batch.logprobs - batch.old_logprobs).sum(dim=1, keepdim=True)
    ratio = (log_ratio / batch.mask.sum(dim=1, keepdim=True).clamp(min=1)).exp()
    return ratio.expand_as(batch.mask)
