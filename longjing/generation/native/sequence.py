"""A request on its way: its tokens, its text, its place in the cache, its end; and those that run, as tensors."""

from collections import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longjing.generation.native.logits_processors import processors_of
from longjing.generation.native.sampling import Sampler
from longjing.generation.request import Chunk, FinishReason, Generation, LogitsProcessor, Request
from longjing.text.stop_strings import TextStream
from longjing.text.tokenizer import Tokenizer


def special_among(tokenizer: Tokenizer, tokens: abc.Iterable[int]) -> frozenset[int]:
    """The special ones of the tokens, which are no text."""
    return frozenset(token for token in tokens if not tokenizer.decode([token], skip_special_tokens=True))


@dataclass(eq=False)
class Sequence:
    """A request while it waits and while it has a row of the cache.

    The row stores all tokens but the last. That one is pending: the next step reads it, and samples what follows.
    """

    id: int
    request: Request
    tokenizer: Tokenizer | None
    end_tokens: frozenset[int]
    streams: bool  # whether its text is wanted as it comes
    # At the end, keep what the cache has of it in `entries`, for a request that follows it.
    retain: bool = False

    prompt: tuple[int, ...] = field(init=False)
    processors: list[LogitsProcessor] = field(init=False)
    stream: TextStream | None = None  # the text so far, if anyone has to know it before the end

    # What it has generated.
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    generation: Generation | None = None

    # Its row.
    stored: int = field(init=False)  # columns in use, once it has one
    started: int = -1  # its number among those that got rows: the latest is pre-empted first
    cached: int = 0  # columns that needn't be read when it gets a row, since they can be copied
    entries: list[Tensor] = field(default_factory=list)  # those columns, `[columns, width]` of each layer
    reused: int = 0  # tokens of the prompt that were never read for this request
    routes: Tensor | None = None  # the experts it took, saved when the row was lost

    # Drafting (speculative.py).
    draft: int = 0  # what may follow the pending token; any guess is right, but few are fast
    drafted: int = 0  # columns that the prediction module has entries for, but for those in `gap`
    gap: tuple[int, int] = (0, 0)  # start and end of the columns that were decoded without it

    def __post_init__(self) -> None:
        self.prompt, stops = tuple(self.request.prompt), self.request.sampling.stop_token_ids
        if self.tokenizer and stops:  # a special token that ends the text isn't part of it
            self.end_tokens = self.end_tokens | special_among(self.tokenizer, stops)
        self.processors = processors_of(self.request, self.end_tokens)
        # All but the last token, which the first step of decoding reads like any other.
        self.stored = len(self.prompt) - 1
        if self.tokenizer and (self.streams or self.request.sampling.stop):
            self.stream = TextStream(self.tokenizer, self.request.sampling.stop)

    def start(self, order: int) -> None:
        """Give the sequence a row, which is about to be read: also by the prediction module."""
        self.started, self.cached = order, 0
        # A prompt is read by both networks, so the prediction module knows as much as the decoder.
        self.drafted, self.gap = self.stored, (0, 0)

    def extend(
        self, tokens: list[int], logprobs: list[float], top: list[list[tuple[int, float]]] | None
    ) -> FinishReason | None:
        """Take in what was sampled, up to the token that ends the request; returns why it has ended, if it has."""
        sampling = self.request.sampling
        for index, token in enumerate(tokens):
            self.tokens.append(token)
            self.stored += 1
            self.logprobs.append(logprobs[index])
            if top is not None and sampling.top_logprobs:
                self.top.append(top[index][: sampling.top_logprobs])
            if token in self.end_tokens or (self.stream and self.stream.add(token)) or token in sampling.stop_token_ids:
                return "stop"
            if len(self.tokens) == sampling.max_tokens:
                return "length"
        return None

    def finish(self, reason: FinishReason, routes: Tensor | None) -> None:
        """Make the `generation` of what there is. `routes`: the experts that its tokens took."""
        text = ""
        if self.stream:
            if self.stream.finish() and reason == "length":
                reason = "stop"  # what the last token left unfinished completes a stop string
            text = self.stream.text
        elif self.tokenizer:
            ended = bool(self.tokens) and self.tokens[-1] in self.end_tokens
            text = self.tokenizer.decode_continuation(self.tokens[:-1] if ended else self.tokens)
        self.generation = Generation(
            list(self.prompt), self.tokens, self.logprobs, reason, text, routes, self.top, self.reused
        )

    def chunk_since(self, tokens: int, characters: int) -> Chunk:
        """What has come after the first so many tokens and so many characters of text."""
        return Chunk(
            self.stream.text[characters:] if self.stream else "",
            self.tokens[tokens:],
            self.generation.finish_reason if self.generation else None,
            self.logprobs[tokens:],
            self.top[tokens:],
        )


@dataclass
class Batch:
    """The running sequences as tensors `[rows]`, which stay on the device from step to step until rows come or go.

    `pending`: the last token, which isn't read yet. `stored`: columns of the cache in use. `positions`: how many
    tokens were generated, which is the position of the next in the completion. `processors`: the logits processors of
    each row and its list of tokens, which grows; None if no row has any.
    """

    sequences: abc.Sequence[Sequence]
    sampler: Sampler
    rows: Tensor
    pending: Tensor
    stored: Tensor
    positions: Tensor
    processors: list[tuple[list[LogitsProcessor], list[int]]] | None

    @classmethod
    def of(cls, sequences: abc.Sequence[Sequence], device: torch.device) -> "Batch":
        """The batch of the sequences in rows 0 to n-1."""
        pending = [sequence.tokens[-1] if sequence.tokens else sequence.prompt[-1] for sequence in sequences]
        steered = any(sequence.processors for sequence in sequences)
        return cls(
            sequences,
            Sampler.of([sequence.request.sampling for sequence in sequences], device),
            torch.arange(len(sequences), device=device),
            torch.tensor(pending, device=device),
            torch.tensor([sequence.stored for sequence in sequences], device=device),
            torch.tensor([len(sequence.tokens) for sequence in sequences], device=device),
            [(sequence.processors, sequence.tokens) for sequence in sequences] if steered else None,
        )

    def advance(self, pending: Tensor, by: Tensor | int) -> None:
        """Each row generated `by` tokens, the last of which are `pending`."""
        self.pending = pending
        self.stored = self.stored + by
        self.positions = self.positions + by
