"""Completions to learn from, as tensors: what every policy objective reads."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PolicyBatch:
    """Completions to learn from, one in a row; every field `[batch, length]`, or what broadcasts to it.

    `mask` (bool) marks the tokens that the policy sampled, with their end token; don't infer it from padding. Where it
    is false nothing is read: whatever stands there, not-a-number too, changes neither loss nor gradient.
    Log-probabilities are natural and at the sampling temperature; only those of `logprobs` have a gradient.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    mask: Tensor
    weights: Tensor
    reference_logprobs: Tensor | None = None


def cleared(batch: PolicyBatch) -> PolicyBatch:
    """The same batch, every field `[batch, length]`, with zeros outside the mask, where ratios are thus 1."""

    def clear(values: Tensor) -> Tensor:
        return values.expand_as(batch.mask).masked_fill(~batch.mask, 0)

    fields = {name: clear(values) for name, values in vars(batch).items() if values is not None}
    return PolicyBatch(**fields)
