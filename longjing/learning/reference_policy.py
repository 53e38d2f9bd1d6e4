"""The reference policy, which the KL term keeps the policy near to: an earlier state of the policy itself."""

import copy

from longjing.learning.state import copy_weights, weights
from longjing.model.decoder import Decoder


def reference_of(policy: Decoder) -> Decoder:
    """The policy as it is now, in memory of its own."""
    return copy.deepcopy(policy)


def refresh(reference: Decoder, policy: Decoder, step: int, every: int) -> None:
    """Replace the reference by the policy after every so many steps (R1-Zero: 400; arXiv 2501.12948, section 2.2)."""
    if (step + 1) % every == 0:
        copy_weights(weights(policy), reference)
