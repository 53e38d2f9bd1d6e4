"""The native engine: continuous batching over one rectangle of memory."""

import copy
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longjing.engine.cache import RectangleCache
from longjing.engine.request import Chunk, Event, FinishReason, Generation, Request
from longjing.engine.sampling import Sampler
from longjing.engine.stops import TextStream
from longjing.errors import UserError
from longjing.model.decoder import Decoder
from longjing.text.tokenizer import Tokenizer

PREFILL_TOKENS = 4096  # per forward pass, padding included; a longer prompt goes alone
MARGIN = 64  # columns that a newcomer must find free for everyone, so that it isn't pre-empted at once


@dataclass
class Statistics:
    """Totals since the engine was made; seconds are wall time inside `step`."""

    steps: int = 0
    seconds: float = 0.0
    tokens_sampled: int = 0
    tokens_prefilled: int = 0
    preemptions: int = 0
    peak_rows: int = 0
    peak_tokens: int = 0


@dataclass(eq=False)
class Running:
    """A request on its way, waiting or in a row of the cache, which stores all its tokens but the last."""

    id: int
    request: Request
    prompt: tuple[int, ...]
    stream: TextStream | None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    routes: Tensor | None = None  # what pre-emption saved
    started: int = -1
    seen: int = 0  # length of the text handed out
    generation: Generation | None = None

    @property
    def stored(self) -> int:
        return len(self.prompt) + len(self.tokens) - 1

    @property
    def pending(self) -> int:
        """The token to be read next."""
        return self.tokens[-1] if self.tokens else self.prompt[-1]


@dataclass
class Batch:
    """The running rows as tensors `[rows]`; valid until rows come or go."""

    sampler: Sampler
    rows: Tensor
    pending: Tensor
    stored: Tensor
    positions: Tensor

    @classmethod
    def of(cls, running: Sequence[Running], device: torch.device) -> "Batch":
        def column(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        return cls(
            Sampler.of([r.request.sampling for r in running], device),
            torch.arange(len(running), device=device),
            column([r.pending for r in running]),
            column([r.stored for r in running]),
            column([len(r.tokens) for r in running]),
        )

    def advance(self, tokens: Tensor) -> None:
        self.pending = tokens
        self.stored += 1
        self.positions += 1


class Engine:
    """Completes prompts with a decoder, which may be the very module that a trainer updates.

    A step lets waiting requests in, in order, as far as rows (`max_batch`) and memory (`cache_bytes`) go, reads
    their prompts but for the last token, and then samples one token for every row. Requests with a prompt that
    is running already copy its latents. When the rows outgrow the memory, the ones that started last go back to
    the head of the queue, and are read again later with what they had generated. What a request gets depends on
    its seed only.

    `record_routes` keeps the experts that tokens took, for the trainer to replay. `end_tokens` default to the
    model's. `dtype` other than the weights' makes the engine keep a copy, which `refresh` renews.
    Drive it from one thread.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None,
        *,
        cache_bytes: int = 1 << 30,
        max_batch: int = 256,
        record_routes: bool = False,
        end_tokens: Collection[int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        weight, config = model.embed_tokens.weight, model.config
        self._source, self.model, self.tokenizer = model, model, tokenizer
        if dtype not in (None, weight.dtype):
            self.model = copy.deepcopy(model).to(dtype).requires_grad_(False)
        self.max_batch = max_batch
        if end_tokens is None:
            end = config.eos_token_id
            end_tokens = () if end is None else (end,) if isinstance(end, int) else end
        self.end_tokens = frozenset(end_tokens)
        mixtures = sum(map(config.has_experts, range(config.num_hidden_layers)))
        self._route_shape = (mixtures, config.num_experts_per_tok) if record_routes and mixtures else None
        width = mixtures * config.num_experts_per_tok if self._route_shape else 0
        self._device, dtype = weight.device, self.model.embed_tokens.weight.dtype
        token_bytes = config.num_hidden_layers * config.cache_width * dtype.itemsize + 2 * width
        area = cache_bytes // token_bytes
        if area < 2 or max_batch < 1:
            raise UserError(
                f"the engine needs at least one row and a cache for two tokens ({2 * token_bytes} bytes), "
                f"not max_batch = {max_batch} and cache_bytes = {cache_bytes}"
            )
        self._cache = RectangleCache(config, area, dtype, self._device, config.num_hidden_layers, width)
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._batch: Batch | None = None
        self._ids = self._starts = 0
        self.stats = Statistics()

    # What others call

    def generate(
        self, requests: Sequence[Request], on_step: Callable[[int, int], None] | None = None
    ) -> list[Generation]:
        """One completion per request, in order. `on_step(finished requests, tokens so far)` reports progress."""
        for request in requests:
            self._check(request)
        sequences = [self._add(request, streams=False) for request in requests]
        finished, tokens = 0, 0
        ours = {sequence.id for sequence in sequences}
        try:
            with self._evaluating():
                while finished < len(ours):
                    events = [event for event in self.step() if event.id in ours]
                    finished += sum(event.generation is not None for event in events)
                    tokens += sum(len(event.chunk.token_ids) for event in events)
                    if on_step:
                        on_step(finished, tokens)
        finally:  # an interrupt must not leave rows behind
            for sequence in sequences:
                self.cancel(sequence.id)
        return [sequence.generation for sequence in sequences if sequence.generation]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """One completion in pieces, as they come. Closing the iterator cancels the request."""
        self._check(request)
        return self._stream(request)

    def add(self, request: Request) -> int:
        """Queue a request, whose text will come in pieces; returns the id that its events carry.

        Raises UserError for one that could never run.
        """
        self._check(request)
        return self._add(request, streams=True).id

    def step(self) -> list[Event]:
        """Let in, read, sample, hand out: an event for every running request. Without any, does nothing."""
        if not self.unfinished:
            return []
        started = time.perf_counter()
        with torch.inference_mode(), self._evaluating():
            self._admit()
            self._make_room()
            events = self._decode()
        self.stats.steps += 1
        self.stats.seconds += time.perf_counter() - started
        return events

    def cancel(self, id: int) -> Generation | None:
        """Stop a request and free its memory, at any moment; returns what it had, or None if it had ended."""
        for row, sequence in enumerate(self._running):
            if sequence.id == id:
                generation = self._finish(row, sequence, "cancelled")
                with torch.inference_mode():
                    self._release([row])
                return generation
        for sequence in self._waiting:
            if sequence.id == id:
                self._waiting.remove(sequence)
                return self._finish(None, sequence, "cancelled")
        return None

    def refresh(self) -> None:
        """Take over the source model's present weights. Not while requests run: their cache is of the old ones."""
        if self._running:
            raise RuntimeError("refresh() while requests are running would mix two models in one completion")
        if self.model is not self._source:
            self.model.load_state_dict(self._source.state_dict())

    @property
    def unfinished(self) -> int:
        """Requests waiting or running."""
        return len(self._waiting) + len(self._running)

    @property
    def memory_in_use(self) -> int:
        """Tokens in the cache."""
        return sum(sequence.stored for sequence in self._running)

    # Requests

    def _check(self, request: Request) -> None:
        sampling, vocabulary = request.sampling, self.model.config.vocab_size
        if not request.prompt:
            raise UserError("the prompt is empty: the model needs at least one token to go on from")
        if not 0 <= min(request.prompt) <= max(request.prompt) < vocabulary:
            raise UserError(f"the prompt has a token outside the model's vocabulary of {vocabulary}")
        if sampling.stop and self.tokenizer is None:
            raise UserError("stop strings need a tokenizer; make the engine with one, or use end_tokens")
        need = len(request.prompt) + sampling.max_tokens
        if need > self._cache.area:
            raise UserError(
                f"a prompt of {len(request.prompt)} tokens with max_tokens = {sampling.max_tokens} needs a cache "
                f"for {need}, and there is one for {self._cache.area}; raise cache_bytes or lower max_tokens"
            )

    def _add(self, request: Request, streams: bool) -> Running:
        wants_text = self.tokenizer is not None and (streams or bool(request.sampling.stop))
        stream = TextStream(self.tokenizer, request.sampling.stop) if self.tokenizer and wants_text else None
        sequence = Running(self._ids, request, tuple(request.prompt), stream)
        self._ids += 1
        self._waiting.append(sequence)
        return sequence

    def _stream(self, request: Request) -> Iterator[Chunk]:
        sequence = self._add(request, streams=True)
        tokens = text = 0
        try:
            while sequence.generation is None:
                if tokens == len(sequence.tokens):  # else another caller's steps took it further
                    self.step()
                so_far = sequence.stream.text if sequence.stream else ""
                end = sequence.generation
                yield Chunk(so_far[text:], sequence.tokens[tokens:], end.finish_reason if end else None)
                tokens, text = len(sequence.tokens), len(so_far)
        finally:
            self.cancel(sequence.id)

    # One step

    def _need(self, sequence: Running) -> int:
        """Columns with which a row gets somewhere."""
        left = sequence.request.sampling.max_tokens - len(sequence.tokens)
        return sequence.stored + min(left, MARGIN)

    def _admit(self) -> None:
        """Move requests from the queue to rows, and read what they need but the pending token."""
        first = len(self._running)
        # A nearly full batch waits for a few free rows, so that prompts are read several at a time.
        if not self._waiting or 0 < first > self.max_batch - min(len(self._waiting), self.max_batch // 16):
            return
        columns = max(map(self._need, self._running), default=0)
        newcomers: list[Running] = []
        while self._waiting and (rows := first + len(newcomers) + 1) <= self.max_batch:
            wider = max(columns, self._need(self._waiting[0]))
            if rows > 1 and rows * wider > self._cache.area:
                break
            columns = wider
            newcomers.append(self._waiting.popleft())
        if not newcomers:
            return
        self._cache.fit(first + len(newcomers), columns, first, self._longest())
        for sequence in newcomers:
            sequence.started = self._starts
            self._starts += 1
        self._prefill(newcomers)
        self._batch = None
        self.stats.peak_rows = max(self.stats.peak_rows, len(self._running))

    def _prefill(self, newcomers: list[Running]) -> None:
        """Give each newcomer the next row: read once each prompt that no row has, and copy the others."""
        rows = {sequence.prompt: row for row, sequence in enumerate(self._running)}
        resumed, fresh, followers = [], [], []
        for sequence in newcomers:
            if sequence.tokens:
                resumed.append(sequence)
            elif sequence.prompt in rows:
                followers.append(sequence)
            else:
                rows[sequence.prompt] = -1
                fresh.append(sequence)
        for kind in (resumed, fresh):  # apart, since only what is resumed replays its experts
            kind.sort(key=lambda sequence: sequence.stored)
            while kind:
                count = 1
                while count < len(kind) and (count + 1) * kind[count].stored <= PREFILL_TOKENS:
                    count += 1
                self._read(kind[:count])
                self._running += kind[:count]
                del kind[:count]
        if followers:
            rows = {sequence.prompt: row for row, sequence in enumerate(self._running)}
            targets = list(range(len(self._running), len(self._running) + len(followers)))
            longest = max(sequence.stored for sequence in followers)
            self._cache.copy([rows[sequence.prompt] for sequence in followers], targets, longest)
            self._running += followers

    def _read(self, sequences: list[Running]) -> None:
        """Prefill the rows after the running ones: all tokens but the pending one, padded on the right.

        The same causal pass as in training. Padding is behind what counts, so nothing that counts sees it, and
        decoding overwrites its entries before it looks at them.
        """
        length = max(sequence.stored for sequence in sequences)
        if not length:
            return
        texts = [(sequence.prompt + tuple(sequence.tokens))[:-1] for sequence in sequences]
        padded = [text + (0,) * (length - len(text)) for text in texts]
        tokens = torch.tensor(padded, device=self._device)
        positions = torch.arange(length, device=self._device).expand_as(tokens)
        replay = None
        if self._route_shape and sequences[0].tokens:
            routes = [sequence.routes for sequence in sequences if sequence.routes is not None]
            replay = torch.nn.utils.rnn.pad_sequence(routes, batch_first=True)
            replay = replay.view(*tokens.shape, *self._route_shape).long()
        self._cache.at_start(len(self._running))
        context = self.model.context(positions, cache=self._cache, replay=replay)
        self.model.hidden(tokens, context)
        if self._route_shape:
            self._cache.store_routes(context.routes)
        self.stats.tokens_prefilled += sum(map(len, texts))

    def _make_room(self) -> None:
        """Every row grows by a column; if the area can't hold that, pre-empt rows, latest started first."""
        while len(self._running) * (self._longest() + 1) > self._cache.area:
            row, sequence = max(enumerate(self._running), key=lambda item: item[1].started)
            sequence.routes = self._saved_routes(row, sequence)
            self._waiting.appendleft(sequence)
            self._release([row])
            self.stats.preemptions += 1
        self._cache.fit(len(self._running), self._longest() + 1, len(self._running), self._longest())

    def _decode(self) -> list[Event]:
        """Read every row's pending token, sample the next."""
        if self._batch is None:
            self._batch = Batch.of(self._running, self._device)
        batch, longest = self._batch, self._longest() + 1
        columns = batch.stored[:, None]
        self._cache.at(batch.rows[:, None], columns, longest)
        mask = torch.arange(longest, device=self._device) <= columns
        context = self.model.context(columns, mask[:, None, None], self._cache, reads_cache=True)
        hidden = self.model.hidden(batch.pending[:, None], context)
        tokens, logprobs = batch.sampler.draw(self.model.head(hidden[:, 0]), batch.positions)
        if self._route_shape:
            self._cache.store_routes(context.routes)
        batch.advance(tokens)
        # One transfer for both: int64 tokens and float32 log-probabilities are exact in float64.
        drawn = torch.stack((tokens.double(), logprobs.double())).tolist()
        return self._hand_out([int(token) for token in drawn[0]], drawn[1])

    def _hand_out(self, tokens: list[int], logprobs: list[float]) -> list[Event]:
        events, ended = [], []
        for row, (sequence, token, logprob) in enumerate(zip(self._running, tokens, logprobs, strict=True)):
            sequence.tokens.append(token)
            sequence.logprobs.append(logprob)
            stream, reason, text, generation = sequence.stream, None, "", None
            if token in self.end_tokens or (stream and stream.add(token)):
                reason = "stop"
            elif len(sequence.tokens) == sequence.request.sampling.max_tokens:
                reason = "length"
            if reason:
                generation = self._finish(row, sequence, reason)
                ended.append(row)
            if stream:
                text = stream.text[sequence.seen :]
                sequence.seen = len(stream.text)
            events.append(Event(sequence.id, Chunk(text, [token], reason), generation))
        self.stats.tokens_sampled += len(tokens)
        self.stats.peak_tokens = max(self.stats.peak_tokens, self.memory_in_use)
        if ended:
            self._release(ended)
        return events

    def _finish(self, row: int | None, sequence: Running, reason: FinishReason) -> Generation:
        tokens, text = sequence.tokens, ""
        if sequence.stream:
            sequence.stream.finish()
            text = sequence.stream.text
        elif self.tokenizer:
            ended = bool(tokens) and tokens[-1] in self.end_tokens
            text = self.tokenizer.decode(tokens[:-1] if ended else tokens)
        routes = sequence.routes if row is None else self._saved_routes(row, sequence)
        if routes is not None and self._route_shape:
            routes = routes.view(-1, *self._route_shape)
        sequence.generation = Generation(
            list(sequence.prompt), tokens, sequence.logprobs, reason, text, routes
        )
        return sequence.generation

    def _saved_routes(self, row: int, sequence: Running) -> Tensor | None:
        return self._cache.routes(row, sequence.stored) if self._route_shape else None

    def _release(self, rows: Collection[int]) -> None:
        """Forget rows, and move the last ones into the holes, so that those in use stay 0 to n-1."""
        gone, left = set(rows), len(self._running) - len(rows)
        sources = [row for row in range(left, len(self._running)) if row not in gone]
        targets = [row for row in gone if row < left]
        if sources:
            longest = max(self._running[row].stored for row in sources)
            self._cache.copy(sources, targets, longest)
        for source, target in zip(sources, targets, strict=True):
            self._running[target] = self._running[source]
        del self._running[left:]
        self._batch = None

    def _longest(self) -> int:
        """Columns in use."""
        return max((sequence.stored for sequence in self._running), default=0)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Keep a trainer's module from counting the engine's tokens in its experts' load."""
        training = self.model.training
        if training:
            self.model.eval()
        try:
            yield
        finally:
            if training:
                self.model.train()
