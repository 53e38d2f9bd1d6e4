"""Log-probabilities of tokens, and the pass through the output head that they come from, a few tokens at a time."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longjing.errors import UserError


def by_chunks(function: Callable[..., Tensor], chunk: int | None, hidden: Tensor, *others: Tensor) -> Tensor:
    """`function(hidden, *others)`, whose result has a row for each token (or one for all that it was given), as have
    `hidden` `[tokens, width]` and the others. `function` runs the head, and reduces its logits.

    More than `chunk` tokens (None: any number) are taken `chunk` at a time, and the logits of a chunk are forgotten
    and computed again in the backward pass: no more than those of one, and their gradient, are ever in memory. That
    costs a third of the head's share of an update.
    """
    if chunk is None or len(hidden) <= chunk:
        return function(hidden, *others)

    def run(*rows: Tensor) -> Tensor:
        # The head's weights are cast anew for each chunk: the gradients of one cast for all would add up in bfloat16.
        device = hidden.device.type
        with torch.autocast(
            device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False
        ):
            return function(*rows)

    pieces = zip(*(rows.split(chunk) for rows in (hidden, *others)), strict=True)
    return torch.cat([checkpoint(run, *rows, use_reentrant=False, preserve_rng_state=False) for rows in pieces])


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of `targets` `[...]` under `logits` `[..., vocabulary]` / `temperature`, float32.

    `temperature` is that of the sampling: the policy is the distribution that the tokens were drawn from. The
    log-softmax is in float32 whatever the logits are. It keeps one float32 copy of them for the gradient; the
    gathered logit minus the logsumexp would keep none, but takes nearly twice as long (measured on the CPU).
    """
    return tempered(logits, temperature).log_softmax(dim=-1).gather(-1, targets[..., None]).squeeze(-1)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits in float32, divided by the temperature; no copy is made where nothing changes."""
    if not temperature > 0:
        raise UserError(f"temperature is {temperature}; learning needs a distribution, so it must be above 0")
    return logits.float() if temperature == 1 else logits.float() / temperature
