"""Those who have a say in a completion's next token (see `request.Guide`), and what they say together."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from longjing.generation.request import LogitsProcessor, Sampling


class Penalties:
    """The penalties and the bias of `Sampling`, as OpenAI's API defines them: sums on single tokens' logits."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._counts: Counter[int] = Counter()
        self._said: Tensor | None = None

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor:
        """See `LogitsProcessor`."""
        sampling, counts = self._sampling, self._counts
        if self._said is None:
            self._said = torch.zeros(vocabulary)
            self._said[list(sampling.logit_bias)] = torch.tensor(list(sampling.logit_bias.values()))
        new = tokens[counts.total() :]
        counts.update(new)
        for token in set(new):  # only these have changed
            penalty = sampling.presence_penalty + sampling.frequency_penalty * counts[token]
            self._said[token] = sampling.logit_bias.get(token, 0.0) - penalty
        return self._said


def guides(sampling: Sampling, guide: LogitsProcessor | None) -> list[LogitsProcessor]:
    """All who have a say in a completion."""
    penalised = sampling.presence_penalty or sampling.frequency_penalty or sampling.logit_bias
    return [*([guide] if guide else []), *([Penalties(sampling)] if penalised else [])]


def agree(guides: Sequence[LogitsProcessor], tokens: Sequence[int], vocabulary: int) -> Tensor | None:
    """What they say together, `[vocabulary]`; None if nobody says anything."""
    said = [bias for guide in guides if (bias := guide.bias(tokens, vocabulary)) is not None]
    return sum(said[1:], start=said[0]) if said else None
