"""How likely a text is that nobody sampled: one pass over it, without the cache."""

from collections.abc import Sequence

import torch

from longjing.generation.native.sampling import likeliest_of
from longjing.model.decoder import Decoder

_PART = 512  # positions whose logits are held at once

# Of each token but the first: its log-probability, and the likeliest tokens at its position with theirs.
Scores = list[tuple[float, list[tuple[int, float]]]]


@torch.inference_mode()
def score(model: Decoder, tokens: Sequence[int], top: int = 0) -> Scores:
    """Log-probabilities of all tokens but the first, each after those before it, in float32 at temperature 1; and of
    the `top` likeliest at its position."""
    if len(tokens) < 2:
        return []
    text = torch.tensor([list(tokens)], device=model.embed_tokens.weight.device)
    positions = torch.arange(len(tokens), device=text.device)[None]
    hidden = model.hidden(text, model.context(positions))[0, :-1]
    scores: Scores = []  # in parts, since the logits of a long text are large
    for states, following in zip(hidden.split(_PART), text[0, 1:].split(_PART), strict=True):
        logprobs = model.head(states).float().log_softmax(dim=-1)
        own = logprobs.gather(1, following[:, None])[:, 0].tolist()
        best = logprobs.topk(min(top, logprobs.shape[1]), dim=-1)
        scores += zip(own, likeliest_of(best), strict=True)
    return scores
