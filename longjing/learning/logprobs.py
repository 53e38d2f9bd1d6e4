"""Log-probabilities of tokens, and the pass through the output head that they come from, a few tokens at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longjing.errors import UserError


def by_chunks(
    function: Callable[..., Tensor], chunk: int | None, hidden: Tensor, *others: Tensor, frozen: bool = False
) -> Tensor:
    """`function(hidden, *others)`, whose result has a row for each token (or one for all that it was given), as have
    `hidden` `[tokens, width]` and the others. `function` runs the head, and reduces its logits.

    More than `chunk` tokens (None: any number) are taken `chunk` at a time, and the logits of a chunk are forgotten
    and computed again in the backward pass: no more than those of one, and their gradient, are ever in memory. That
    costs a third of the head's share of an update, but for a `frozen` head, where nothing but `hidden` has a gradient:
    then that of each row is computed at once, and only scaled in the backward pass.
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
    if frozen and torch.is_grad_enabled() and hidden.requires_grad:
        results: list[Tensor] = [_Differentiated.apply(run, *rows) for rows in pieces]  # type: ignore[no-untyped-call]
        return torch.cat(results)
    return torch.cat([checkpoint(run, *rows, use_reentrant=False, preserve_rng_state=False) for rows in pieces])


class _Differentiated(torch.autograd.Function):
    """`function(hidden, *others)`, with a number for each row, or one for all."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], hidden: Tensor, *others: Tensor) -> Tensor:
        with torch.enable_grad():
            rows = hidden.detach().requires_grad_()
            result = function(rows, *others)
            # A row's result has to do with no other row: so the gradient of the sum has each one's.
            (gradient,) = torch.autograd.grad(result.sum(), rows)
        ctx.save_for_backward(gradient)
        return result.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, gradients[0][:, None].to(gradient.dtype) * gradient, *[None] * (len(ctx.needs_input_grad) - 2)


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
