"""What is added to logits before a token is drawn: penalties, biases, and all processors of a batch together.

A grammar and the reasoning budget are processors too (`LogitsProcessor` in request.py); they live where chat lives.
"""

from collections import Counter
from collections.abc import Sequence

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


def processors_of(request: Request) -> list[LogitsProcessor]:
    """All processors of a completion: the request's own, and the penalties if its settings have any."""
    sampling, processors = request.sampling, []
    if request.logits_processor is not None:
        processors.append(request.logits_processor)
    if sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias:
        processors.append(Penalties(sampling))
    return processors


def combined_bias(processors: Sequence[LogitsProcessor], tokens: Sequence[int], vocabulary: int) -> Tensor | None:
    """The sum of what the processors add, `[vocabulary]`; None if none of them adds anything."""
    total = None
    for processor in processors:
        bias = processor.bias(tokens, vocabulary)
        if bias is not None:
            total = bias if total is None else total + bias
    return total


def batch_bias(
    rows: Sequence[tuple[Sequence[LogitsProcessor], Sequence[int]]], vocabulary: int, device: torch.device
) -> Tensor:
    """What to add to the next logits of each row, `[rows, vocabulary]`. `rows`: the processors of each, and its tokens
    so far."""
    nothing = torch.zeros(vocabulary)
    biases = (combined_bias(processors, tokens, vocabulary) for processors, tokens in rows)
    return torch.stack([nothing if bias is None else bias for bias in biases]).to(device)
