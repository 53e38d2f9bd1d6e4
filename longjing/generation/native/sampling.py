"""From logits to tokens, a whole batch at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from longjing.generation.random import signed, uniform
from longjing.generation.request import Sampling

_BLOCK, _SEVERAL = 256, 16  # tokens that are added up together, where a vocabulary has at least so many times as many
SHORTLIST = 128  # likeliest tokens, among which is nearly always all that top-p leaves


def likeliest_of(top: torch.return_types.topk) -> list[list[tuple[int, float]]]:
    """The tokens of each row of `top`, with their log-probabilities."""
    rows = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [list(zip(tokens, logprobs, strict=True)) for tokens, logprobs in rows]


class SamplerOutput(NamedTuple):
    """Tokens and their log-probabilities, `[rows]` each, and of the likeliest ones values and tokens `[rows, top]`."""

    tokens: Tensor
    logprobs: Tensor
    top: torch.return_types.topk | None


@dataclass(frozen=True)
class StepOutput:
    """What a decoding step sampled: of row i the first `counts[i]` of `tokens[i]`; and the drafts it made.

    `top`: the likeliest tokens at the same positions, with their log-probabilities, where a row wants to know.
    """

    tokens: list[list[int]]
    logprobs: list[list[float]]
    counts: list[int]
    drafts: list[int] | None = None
    top: list[list[list[tuple[int, float]]]] | None = None

    @classmethod
    def of(cls, draws: Sequence[SamplerOutput], counts: list[int], drafts: list[int] | None = None) -> "StepOutput":
        """The step's tokens as lists by row. `draws`: of one token after the other, each for all rows."""
        tokens = torch.stack([draw.tokens for draw in draws], dim=1).tolist()
        logprobs = torch.stack([draw.logprobs for draw in draws], dim=1).tolist()
        likeliest = [likeliest_of(draw.top) for draw in draws if draw.top is not None]
        top = [list(row) for row in zip(*likeliest, strict=True)] if likeliest else None
        return cls(tokens, logprobs, counts, drafts, top)


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
    top: int  # likeliest tokens to note: the most that a row wants

    @classmethod
    def of(cls, settings: Sequence[Sampling], device: torch.device) -> "Sampler":
        """A sampler of rows, each with its own settings."""

        def column(values: list[float], off: float) -> Tensor | None:
            # What nobody asks for costs nothing: sorting a large vocabulary can be the dearest part of a step.
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
            max(s.top_logprobs for s in settings),
        )

    def draw(
        self, logits: Tensor, positions: Tensor, bias: Tensor | None = None, factors: Tensor | None = None
    ) -> SamplerOutput:
        """A token for each row from `logits` `[rows, vocabulary]`.

        `positions` `[rows]` counts the completion's tokens. `factors` (logits above 0 are divided by them, others
        multiplied) and then `bias`, both `[rows, vocabulary]`, change what is drawn, and not its log-probability. Each
        row inverts its own distribution function at its own number, so what it draws doesn't depend on the others.
        """
        logits = logits.float()
        biased = logits if factors is None else torch.where(logits > 0, logits / factors, logits * factors)
        biased = biased if bias is None else biased + bias
        if self.temperature is not None:
            logits, biased = logits / self.temperature[:, None], biased / self.temperature[:, None]
        if self.all_greedy:
            tokens = biased.argmax(dim=-1)
        else:
            tokens = _invert(self._filter(biased.softmax(dim=-1)), uniform(self.seeds, positions))
            if self.greedy is not None:
                tokens = torch.where(self.greedy, biased.argmax(dim=-1), tokens)
        # As the trainer computes it, to the bit; the logarithm of a probability would be off by a rounding.
        logprobs = logits.log_softmax(dim=-1)
        top = logprobs.topk(min(self.top, logprobs.shape[1]), dim=-1) if self.top else None
        return SamplerOutput(tokens, logprobs.gather(1, tokens[:, None])[:, 0], top)

    def _filter(self, probabilities: Tensor) -> Tensor:
        """`probabilities` `[rows, vocabulary]`, with zeros for what top-k, top-p and min-p exclude."""
        if self.top_k is not None or self.top_p is not None:
            probabilities = self._top_k_top_p(probabilities)
        if self.min_p is not None:
            # Relative to the likeliest token, so that it needs no new normalisation after top-k and top-p.
            least = self.min_p[:, None] * probabilities.amax(dim=-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < least, 0)
        return probabilities

    def _top_k_top_p(self, probabilities: Tensor) -> Tensor:
        """With zeros for what top-k and top-p exclude.

        On a CPU, where sorting a large vocabulary takes longer than a small network does, only those rows are sorted
        whole whose `SHORTLIST` likeliest tokens aren't enough. Which they are is up to each row by itself. A GPU sorts
        fast, and asking it which they are would be waited for.
        """
        rows = torch.arange(len(probabilities), device=probabilities.device)
        if probabilities.device.type != "cpu" or probabilities.shape[1] <= SHORTLIST:
            return self._top_k_top_p_by_sorting(probabilities, rows)
        ordered, tokens = probabilities.topk(SHORTLIST, dim=-1)
        kept, complete = self._mask_excluded(ordered, rows, probabilities.sum(dim=-1))
        likeliest = torch.zeros_like(probabilities).scatter_(1, tokens, kept)
        if len(rest := rows[~complete]):
            likeliest[rest] = self._top_k_top_p_by_sorting(probabilities[rest], rest)
        return likeliest

    def _top_k_top_p_by_sorting(self, probabilities: Tensor, rows: Tensor) -> Tensor:
        """As `_top_k_top_p`, of some rows, by sorting each whole."""
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        kept, _ = self._mask_excluded(ordered, rows, probabilities.sum(dim=-1))
        return torch.zeros_like(probabilities).scatter_(1, tokens, kept)

    def _mask_excluded(self, ordered: Tensor, rows: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        """Falling probabilities `[n, tokens]` of some rows, with zeros for what top-k and top-p exclude.

        `total` `[n]`: the sum of each row's whole distribution. Also returns `[n]` whether what is kept is complete:
        that no token behind these would be kept too.
        """
        complete = unknown = torch.zeros_like(total, dtype=torch.bool)
        if self.top_k is not None:
            top_k, count = self.top_k[rows], ordered.shape[1]
            rank = torch.arange(count, device=ordered.device)
            ordered = ordered.masked_fill((rank >= top_k[:, None]) & (top_k[:, None] > 0), 0)
            complete, unknown = (top_k > 0) & (top_k <= count), top_k > count
            # Top-p is a share of what top-k has left, as in vLLM and `transformers`.
            total = torch.where(top_k > 0, ordered.sum(dim=-1), total)
        if self.top_p is not None:
            # Sums are rounded, so that a top-p of 1 has to be excepted.
            least = torch.where(self.top_p[rows] < 1, self.top_p[rows] * total, float("inf"))
            sums = ordered.cumsum(dim=-1)
            # A token stays while those likelier than it don't fill top-p: so the one that crosses it stays, too.
            before = sums - ordered
            # The likeliest stays, even if a tiny top-p rounds to zero.
            ordered = ordered.masked_fill((before >= least[:, None]) & (before > 0), 0)
            complete = complete | (sums[:, -1] >= least)
        return ordered, complete & ~unknown


def _invert(weights: Tensor, numbers: Tensor) -> Tensor:
    """The tokens `[rows]` at which the sum of `weights` `[rows, vocabulary]` so far passes `numbers` `[rows]` times the
    total: inverse transform sampling.

    Never at a weight of zero, since the sum has to rise there. In float64, or a large vocabulary's tail
    would be lost; Apple's GPUs have none, so theirs is done on the CPU.
    """
    origin = weights.device
    device = torch.device("cpu") if origin.type == "mps" else origin
    weights, numbers = weights.to(device), numbers[:, None].to(device)
    vocabulary = weights.shape[1]
    blocks = vocabulary // _BLOCK
    if blocks < _SEVERAL:
        sums = weights.cumsum(dim=-1, dtype=torch.float64)
        return torch.searchsorted(sums, sums[:, -1:] * numbers, right=True)[:, 0].to(origin)
    # First the block, then the place in it: to add up a large vocabulary one by one takes as long as the last layer.
    # A block's sum in float32 is as exact as its weights are; what is in it is found in float64 again.
    whole, rest = weights.tensor_split([blocks * _BLOCK], dim=1)
    totals = torch.cat((whole.unflatten(1, (blocks, _BLOCK)).sum(dim=-1), rest.sum(dim=-1, keepdim=True)), dim=1)
    sums = totals.cumsum(dim=-1, dtype=torch.float64)
    targets = sums[:, -1:] * numbers
    block = torch.searchsorted(sums, targets, right=True)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0.0)
    columns = block * _BLOCK + torch.arange(_BLOCK, device=device)
    inside = weights.gather(1, columns.clamp(max=vocabulary - 1)).double().masked_fill(columns >= vocabulary, 0)
    inside = inside.cumsum(dim=-1)
    # Its sum was rounded otherwise, so that the target may lie beyond it.
    targets = torch.minimum(targets - before, inside[:, -1:].nextafter(inside.new_zeros(())))
    return (block * _BLOCK + torch.searchsorted(inside, targets, right=True))[:, 0].to(origin)
