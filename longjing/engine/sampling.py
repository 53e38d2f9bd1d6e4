"""From logits to tokens, a whole batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longjing.engine.random import signed, uniform
from longjing.engine.request import Sampling


@dataclass
class Sampler:
    """The sampling settings of a batch's rows as tensors `[rows]`; None where no row needs the operation."""

    seeds: Tensor
    temperature: Tensor | None
    greedy: Tensor | None
    top_k: Tensor | None
    top_p: Tensor | None
    min_p: Tensor | None
    all_greedy: bool

    @classmethod
    def of(cls, settings: Sequence[Sampling], device: torch.device) -> "Sampler":
        """Of one row each."""

        def column(values: list[float], off: float) -> Tensor | None:
            return None if all(v == off for v in values) else torch.tensor(values, device=device)

        greedy = [s.temperature == 0 for s in settings]
        return cls(
            torch.tensor([signed(s.seed) for s in settings], dtype=torch.int64, device=device),
            column([s.temperature or 1.0 for s in settings], 1.0),
            torch.tensor(greedy, device=device) if any(greedy) else None,
            column([s.top_k for s in settings], 0),
            column([s.top_p for s in settings], 1.0),
            column([s.min_p for s in settings], 0.0),
            all(greedy),
        )

    def draw(self, logits: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens `[rows]` and their log-probabilities `[rows]` from `logits` `[rows, vocabulary]`.

        `positions` `[rows]` counts the completion's tokens. Each row inverts its own distribution function at
        its own number, so what it draws doesn't depend on the others.
        """
        logits = logits.float()
        if self.temperature is not None:
            logits = logits / self.temperature[:, None]
        probabilities = logits.softmax(dim=-1)
        if self.all_greedy:
            tokens = logits.argmax(dim=-1)
        else:
            tokens = _invert(self._filter(probabilities), uniform(self.seeds, positions))
            if self.greedy is not None:
                tokens = torch.where(self.greedy, logits.argmax(dim=-1), tokens)
        # As the trainer computes it, to the bit; the logarithm of a probability would be off by a rounding.
        return tokens, logits.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]

    def _filter(self, probabilities: Tensor) -> Tensor:
        """`probabilities` `[rows, vocabulary]`, with zeros for what top-k, top-p and min-p exclude."""
        if self.top_k is not None or self.top_p is not None:
            ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
            if self.top_k is not None:
                rank = torch.arange(ordered.shape[1], device=ordered.device)
                ordered = ordered.masked_fill((rank >= self.top_k[:, None]) & (self.top_k[:, None] > 0), 0)
            if self.top_p is not None:
                before = ordered.cumsum(dim=-1) - ordered
                least = self.top_p[:, None] * ordered.sum(dim=-1, keepdim=True)
                ordered = ordered.masked_fill(before >= least, 0)
            probabilities = torch.zeros_like(probabilities).scatter_(1, tokens, ordered)
        if self.min_p is not None:
            least = self.min_p[:, None] * probabilities.amax(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < least, 0)
        return probabilities


def _invert(weights: Tensor, numbers: Tensor) -> Tensor:
    """Where the running sum of `weights` `[rows, vocabulary]` passes `numbers` `[rows]` times the total.

    Never at a weight of zero, since the sum has to rise there. In float64, or a large vocabulary's tail
    would be lost; Apple's GPUs have none, so theirs is done on the CPU.
    """
    device = torch.device("cpu") if weights.device.type == "mps" else weights.device
    sums = weights.to(device).cumsum(dim=-1, dtype=torch.float64)
    targets = sums[:, -1:] * numbers[:, None].to(device)
    return torch.searchsorted(sums, targets, right=True)[:, 0].to(weights.device)
