"""The reference policy, which the KL term keeps the policy near to: an earlier state of the policy itself.

It is no second network: only what learns is there twice, with an adapter the adapter alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longjing.learning.state import copy_weights, weights
from longjing.model.decoder import Decoder


class ReferencePolicy:
    """The policy as it was when this was made, or last refreshed. `weights`: as in `state.weights`, its own."""

    def __init__(self, policy: Decoder) -> None:
        self._policy = policy
        self.weights = {name: tensor.clone() for name, tensor in weights(policy).items()}

    @contextmanager
    def active(self) -> Iterator[Decoder]:
        """The network as the reference policy, without gradients, until the block ends: then it is the policy again, in
        the memory that it had."""
        with torch.no_grad():
            self._swap()
            try:
                yield self._policy
            finally:
                self._swap()

    def _swap(self) -> None:
        tensors = dict([*self._policy.named_parameters(), *self._policy.named_buffers()])
        for name, own in self.weights.items():
            self.weights[name], tensors[name].data = tensors[name].data, own

    def refresh(self, step: int, every: int) -> None:
        """Become the policy after every so many steps (R1-Zero: 400; arXiv 2501.12948, section 2.2)."""
        if (step + 1) % every == 0:
            copy_weights(weights(self._policy), self.weights)
