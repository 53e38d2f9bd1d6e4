"""What is added to logits before a token is drawn: penalties, biases, and all processors of a batch together.

A grammar and the reasoning budget are processors too (`LogitsProcessor` in request.py); they live where chat lives.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from longjing.generation.request import LogitsProcessor, Request, Sampling


class Penalties:
    """The penalties and the bias of `Sampling`, as OpenAI's API defines them: sums on single tokens' logits."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._counts: Counter[int] = Counter()
        self._bias: Tensor | None = None

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor:
        """The bias for the next token (see `LogitsProcessor`)."""
        sampling, counts = self._sampling, self._counts
        if self._bias is None:
            self._bias = torch.zeros(vocabulary)
            self._bias[list(sampling.logit_bias)] = torch.tensor(list(sampling.logit_bias.values()))
        new = tokens[counts.total() :]
        counts.update(new)
        for token in set(new):  # only these have changed
            penalty = sampling.presence_penalty + sampling.frequency_penalty * counts[token]
            self._bias[token] = sampling.logit_bias.get(token, 0.0) - penalty
        return self._bias


class MinTokens:
    """Forbids the `ends` until there are so many tokens."""

    def __init__(self, min_tokens: int, ends: Collection[int]) -> None:
        self._min_tokens, self._ends = min_tokens, list(ends)
        self._forbidden: Tensor | None = None

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """See `LogitsProcessor`."""
        if len(tokens) >= self._min_tokens:
            return None
        if self._forbidden is None:
            self._forbidden = torch.zeros(vocabulary)
            self._forbidden[self._ends] = float("-inf")
        return self._forbidden


class RepetitionPenalty:
    """`Sampling.repetition_penalty`: what the logits of one completion are divided by, or multiplied with."""

    def __init__(self, penalty: float, prompt: Sequence[int]) -> None:
        self._penalty, self._prompt = penalty, list(prompt)
        self._factors: Tensor | None = None
        self._known = 0

    def factors(self, tokens: Sequence[int], vocabulary: int) -> Tensor:
        """The penalty where the prompt or the completion's `tokens` have the token, else 1: `[vocabulary]`."""
        if self._factors is None:
            self._factors = torch.ones(vocabulary)
            self._factors[self._prompt] = self._penalty
        self._factors[list(tokens[self._known :])] = self._penalty
        self._known = len(tokens)
        return self._factors

    def bias(self, tokens: Sequence[int], vocabulary: int) -> None:
        """See `LogitsProcessor`: it adds nothing."""


def processors_of(request: Request, end_tokens: Collection[int]) -> list[LogitsProcessor]:
    """All processors of a completion: the request's own, and those that its settings ask for."""
    sampling = request.sampling
    processors: list[LogitsProcessor] = []
    if request.logits_processor is not None:
        processors.append(request.logits_processor)
    if sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias:
        processors.append(Penalties(sampling))
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenalty(sampling.repetition_penalty, request.prompt))
    if sampling.min_tokens:  # the last, for it gives way
        processors.append(MinTokens(sampling.min_tokens, {*end_tokens, *sampling.stop_token_ids}))
    return processors


def combined_bias(processors: Sequence[LogitsProcessor], tokens: Sequence[int], vocabulary: int) -> Tensor | None:
    """The sum of what the processors add, `[vocabulary]`, but for a `MinTokens` that would leave no token; None if none
    of them adds anything."""
    total = None
    for processor in processors:
        bias = processor.bias(tokens, vocabulary)
        if bias is not None:
            added = bias if total is None else total + bias
            # A grammar may be at its end, with nothing else to say.
            total = total if isinstance(processor, MinTokens) and not added.isfinite().any() else added
    return total


def batch_bias(
    rows: Sequence[tuple[Sequence[LogitsProcessor], Sequence[int]]], vocabulary: int, device: torch.device
) -> Tensor:
    """What to add to the next logits of each row, `[rows, vocabulary]`. `rows`: the processors of each, and its tokens
    so far."""
    nothing = torch.zeros(vocabulary)
    biases = (combined_bias(processors, tokens, vocabulary) for processors, tokens in rows)
    return torch.stack([nothing if bias is None else bias for bias in biases]).to(device)


def batch_factors(
    rows: Sequence[tuple[Sequence[LogitsProcessor], Sequence[int]]], vocabulary: int, device: torch.device
) -> Tensor | None:
    """The repetition penalties of each row, `[rows, vocabulary]`, 1 for none; None if no row has any."""
    penalties = [next((each for each in row if isinstance(each, RepetitionPenalty)), None) for row, _ in rows]
    if not any(penalties):
        return None
    nothing = torch.ones(vocabulary)
    factors = (
        nothing if penalty is None else penalty.factors(tokens, vocabulary)
        for penalty, (_, tokens) in zip(penalties, rows, strict=True)
    )  # fmt: skip
    return torch.stack([*factors]).to(device)
