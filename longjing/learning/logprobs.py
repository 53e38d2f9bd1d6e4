"""Log-probabilities of sampled tokens."""

from torch import Tensor

from longjing.errors import UserError


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
