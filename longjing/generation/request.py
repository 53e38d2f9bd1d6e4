"""What goes into a generator and what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from typing import Literal, Protocol

from torch import Tensor

from longjing.errors import UserError

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Sampling:
    """How to draw a completion. Raises UserError for values out of range.

    `temperature` 0 is greedy. The filters apply after the temperature, in this order: `top_k` (0 is off),
    `top_p` of what is left (1 is off), `min_p` relative to the likeliest token (0 is off). `max_tokens`
    counts the end token. `stop`: strings that end the text, and are cut off it. `stop_token_ids`: tokens that end it
    too, but stay in it unless they are special ones. `min_tokens`: how many come before a token may that ends the text,
    unless a grammar leaves nothing else. `seed`: the sample's own, modulo 2^64.

    Before the temperature, logits are changed: `repetition_penalty` divides those above 0 of every token that the
    prompt or the completion has, and multiplies those below (1 is off; CTRL, arXiv 1909.05858, section 4.1).
    `presence_penalty` is taken off the logit of every token that the completion has, and `frequency_penalty` off it for
    each time that it has it; `logit_bias` is added to the logits of single tokens.

    `top_logprobs`: how many of the likeliest tokens to note at each position.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        # Logits divided by it, and by the repetition penalty, stay numbers, in float32 too.
        divides = self.temperature == 0 or 1e-4 <= self.temperature <= 1e4
        rules = (
            ("temperature", "0, for greedy, or 0.0001 to 10000", divides),
            ("top_k", "0, for off, or more", self.top_k >= 0),
            ("top_p", "above 0 and at most 1", 0 < self.top_p <= 1),
            ("min_p", "between 0 and 1", 0 <= self.min_p <= 1),
            ("max_tokens", "at least 1", self.max_tokens >= 1),
            ("stop", "non-empty strings", all(self.stop)),
            ("min_tokens", "between 0 and max_tokens", 0 <= self.min_tokens <= self.max_tokens),
            ("repetition_penalty", "0.01 to 100", 0.01 <= self.repetition_penalty <= 100),
            ("presence_penalty", "a number", isfinite(self.presence_penalty)),
            ("frequency_penalty", "a number", isfinite(self.frequency_penalty)),
            ("logit_bias", "numbers by token", not any(map(isnan, self.logit_bias.values()))),
            ("top_logprobs", "0, for none, or more", self.top_logprobs >= 0),
        )
        wrong = [f"{name} = {getattr(self, name)!r} (must be {allowed})" for name, allowed, holds in rules if not holds]
        if wrong:
            raise UserError(f"sampling settings out of range: {', '.join(wrong)}")


class LogitsProcessor(Protocol):
    """Changes the logits of one completion's next token: a grammar, a budget for reasoning, penalties."""

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """What to add to the next token's logits, `[vocabulary]`, after the completion's `tokens` so far; None for
        nothing. Minus infinity forbids a token, and one at least must stay. Called once for each token, in order.

        A processor that binds an answer may raise UserError where it can't go on.
        """


@dataclass(frozen=True)
class Request:
    """One completion wanted. The samples of a group are requests with the same prompt and different seeds.

    `keep`: how many of its first tokens, prompt and completion, are worth keeping when it has ended, because a later
    prompt may begin with them (`Engine`'s `prefix_bytes`). Raises UserError if that is negative.
    """

    prompt: Sequence[int]
    sampling: Sampling = Sampling()
    logits_processor: LogitsProcessor | None = None
    keep: int = 0

    def __post_init__(self) -> None:
        if self.keep < 0:
            raise UserError(f"keep = {self.keep}: tokens to keep are 0 or more")

    def check(self, vocabulary: int, capacity: int, has_tokenizer: bool) -> None:
        """Raise UserError if it could never run. `capacity`: tokens that the cache holds."""
        sampling = self.sampling
        if not self.prompt:
            raise UserError("the prompt is empty: the model needs at least one token to go on from")
        if not 0 <= min(self.prompt) <= max(self.prompt) < vocabulary:
            raise UserError(f"the prompt has a token outside the model's vocabulary of {vocabulary}")
        for name in ("logit_bias", "stop_token_ids"):
            for token in getattr(sampling, name):
                if not 0 <= token < vocabulary:
                    raise UserError(f"{name} names the token {token}, outside the vocabulary of {vocabulary}")
        if sampling.stop and not has_tokenizer:
            raise UserError("stop strings need a tokenizer; make the engine with one, or use end_tokens")
        need = len(self.prompt) + sampling.max_tokens
        if need > capacity:
            raise UserError(
                f"a prompt of {len(self.prompt)} tokens with max_tokens = {sampling.max_tokens} needs a "
                f"cache for {need}, and it holds {capacity}; raise cache_bytes or lower max_tokens"
            )


@dataclass(frozen=True)
class Generation:
    """One completion.

    `tokens` holds the end token, or what completed the stop string, if that was sampled; `text` is without.
    `logprobs`: of each token under softmax(logits / temperature) in float32, the distribution it was drawn
    from if no filter and no logits processor was on; of a greedy token, at temperature 1. `top`: at each position the
    likeliest tokens under the same distribution with their log-probabilities, as many as asked for. `routes`
    int16 `[len(prompt) + len(tokens) - 1, mixture layers, experts per token]`: the experts taken by each token
    that was read, if the engine records. `reused`: tokens of the prompt that an earlier request had read.

    A conversation of several turns can be one generation (`multi_turn.py`): `unsampled` then says which spans of
    `tokens` are replies, as pairs of start and end; these have no log-probability.
    """

    prompt: list[int]
    tokens: list[int]
    logprobs: list[float]
    finish_reason: FinishReason
    text: str = ""
    routes: Tensor | None = None
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    reused: int = 0
    unsampled: tuple[tuple[int, int], ...] = ()

    @property
    def length(self) -> int:
        """How many of the tokens were sampled."""
        return len(self.tokens) - sum(end - start for start, end in self.unsampled)

    @property
    def sampled(self) -> list[bool]:
        """A mask of the tokens: whether each was sampled."""
        mask = [True] * len(self.tokens)
        for start, end in self.unsampled:
            mask[start:end] = [False] * (end - start)
        return mask


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a completion as it comes. Text can lag behind tokens: it may yet become a stop string."""

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[float] = field(default_factory=list)
    top: list[list[tuple[int, float]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Event:
    """What a step did for one request: its new tokens and, with the last of them, the whole."""

    id: int
    chunk: Chunk
    generation: Generation | None = None
