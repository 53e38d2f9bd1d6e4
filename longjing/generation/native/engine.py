"""The native engine: continuous batching over one rectangle of memory."""

import copy
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.generation.native.batch import Batch, Running
from longjing.generation.native.cache import RectangleCache
from longjing.generation.native.logits_processors import agree
from longjing.generation.native.prefix_cache import PrefixStore
from longjing.generation.native.runner import ModelRunner, StepOutput
from longjing.generation.native.speculative import AdaptiveDrafting
from longjing.generation.request import Chunk, Event, FinishReason, Follow, Generation, Request
from longjing.model.decoder import Decoder
from longjing.model.threads import cpu_threads, decoding_threads, is_small
from longjing.text.stop_strings import TextStream
from longjing.text.tokenizer import Tokenizer

PREFILL_TOKENS = 4096  # per forward pass, padding included; a longer prompt goes alone
MARGIN = 64  # columns that a newcomer must find free for everyone, so that it isn't pre-empted at once


@dataclass
class EngineStatistics:
    """Totals since the engine was made; seconds are wall time inside `step`."""

    steps: int = 0
    seconds: float = 0.0
    tokens_sampled: int = 0
    tokens_prefilled: int = 0
    preemptions: int = 0
    peak_rows: int = 0
    peak_tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    tokens_reused: int = 0

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that were what the model then said."""
        return self.accepted / max(1, self.drafted)


class Engine:
    """Completes prompts with a decoder, which may be the very module that a trainer updates.

    A step lets waiting requests in, in order, as far as rows (`max_batch`) and memory (`cache_bytes`) go,
    reads their prompts but for the last token, and then samples a token for every row. Of requests with one
    prompt, the first reads it and the others copy what the cache has. When the rows outgrow the memory,
    those that started last go back to the head of the queue, and later are read again with what they had
    generated. With `prefix_bytes`, the beginnings of finished requests are kept (see `Request.keep`), and a prompt that
    begins likewise is read from there on. What a request gets depends on its seed only, but for rounding.

    `record_routes` keeps the experts that tokens took, for the trainer to replay. `batch_invariant`: a token's bits
    don't depend on what runs beside it, in float32 on a CPU whose products allow it; then few rows cost as much as
    sixteen, so that by default it holds for small models only. `threads`: of the CPU, while it works; by default
    `decoding_threads`. `speculate` drafts with the model's prediction module; "auto" does where that is measured to
    be faster. `end_tokens` default to the model's. A `dtype` other than the weights' makes the engine keep a copy,
    which `refresh` renews. Raises
    UserError for settings that can't be. Drive it from one thread.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer | None,
        *,
        cache_bytes: int = 1 << 30,
        max_batch: int = 256,
        record_routes: bool = False,
        batch_invariant: bool | None = None,
        threads: int | None = None,
        speculate: bool | Literal["auto"] = False,
        end_tokens: Collection[int] | None = None,
        dtype: torch.dtype | None = None,
        prefix_bytes: int = 0,
    ) -> None:
        weight, config = model.embed_tokens.weight, model.config
        self._source, self.model, self.tokenizer = model, model, tokenizer
        if dtype not in (None, weight.dtype):
            self.model = copy.deepcopy(model).requires_grad_(False)
            for parameter in self.model.parameters():  # the buffers, angles and biases, stay exact
                parameter.data = parameter.data.to(dtype)
        self.max_batch = max_batch
        if end_tokens is None:
            end = config.eos_token_id
            end_tokens = () if end is None else (end,) if isinstance(end, int) else end
        self.end_tokens = frozenset(end_tokens)
        if speculate is True and not config.num_nextn_predict_layers:
            raise UserError('speculate = True needs a model with a multi-token prediction layer; try "auto"')
        drafts = bool(speculate and config.num_nextn_predict_layers)
        self._pace = AdaptiveDrafting() if drafts and speculate == "auto" else None
        self._stride, self._drafting = 1 + drafts, False
        mixtures = sum(map(config.has_experts, range(config.num_hidden_layers))) if record_routes else 0
        routes, layers = (mixtures, config.num_experts_per_tok), config.num_hidden_layers + drafts
        weight = self.model.embed_tokens.weight
        # A CPU's attention over a cache is several times slower in bfloat16 than in float32.
        kept = torch.float32 if weight.device.type == "cpu" else weight.dtype
        token_bytes = layers * config.cache_width * kept.itemsize + 2 * routes[0] * routes[1]
        if record_routes and prefix_bytes:
            raise UserError("record_routes needs every token to be read: leave out prefix_bytes")
        area = cache_bytes // token_bytes
        if area < 2 or max_batch < 1:
            raise UserError(
                f"the engine needs at least one row and a cache for two tokens ({2 * token_bytes} bytes), "
                f"not max_batch = {max_batch} and cache_bytes = {cache_bytes}"
            )
        self._device = weight.device
        self._cache = RectangleCache(area, [config.cache_width] * layers, kept, self._device, routes)
        small = is_small(self.model)
        self._threads = threads or decoding_threads(small)
        invariant = small if batch_invariant is None else batch_invariant
        self._runner = ModelRunner(self.model, self._cache, drafts, mixtures > 0, invariant)
        self._prefixes = PrefixStore(prefix_bytes)
        self._waiting: deque[Running] = deque()
        self._running: list[Running] = []
        self._batch: Batch | None = None
        self._ids = self._starts = 0
        self.stats = EngineStatistics()
        # Told after each step of `generate`: how many completions are done, of how many, with how many tokens.
        self.watcher: Callable[[int, int, int], None] | None = None

    # What others call

    def generate(
        self,
        requests: Sequence[Request],
        on_step: Callable[[int, int], None] | None = None,
        follow: Follow | None = None,
    ) -> list[Generation]:
        """See `Generator`. What follows a request is read from where that ended, and goes before those that wait."""
        for request in requests:
            self.check(request)
        sequences = [self._add(request, streams=False) for request in requests]
        for sequence in sequences:
            sequence.keeps = follow is not None
        tokens, places = 0, {sequence.id: place for place, sequence in enumerate(sequences)}
        try:
            with self._evaluating():
                while places:
                    for event in [event for event in self.step() if event.id in places]:
                        tokens += len(event.chunk.token_ids)
                        if event.generation is None:
                            continue
                        place = places.pop(event.id)
                        ended = sequences[place]
                        following = follow(place, event.generation) if follow else None
                        if following is not None:
                            sequences[place] = self._follow(ended, following)
                            places[sequences[place].id] = place
                        ended.entries = []
                    done = len(sequences) - len(places)
                    if on_step:
                        on_step(done, tokens)
                    if self.watcher:
                        self.watcher(done, len(sequences), tokens)
        finally:  # an interrupt must not leave rows behind
            for sequence in sequences:
                self.cancel(sequence.id)
        return [sequence.generation for sequence in sequences if sequence.generation]

    def stream(self, request: Request) -> Iterator[Chunk]:
        """One completion in pieces, as they come. Closing the iterator cancels the request."""
        self.check(request)
        return self._stream(request)

    def add(self, request: Request, streams: bool = True) -> int:
        """Queue a request; returns the id that its events carry, and with `streams` its text as it comes.

        Raises UserError for one that could never run.
        """
        self.check(request)
        return self._add(request, streams).id

    def step(self) -> list[Event]:
        """Let in, read, sample, hand out: an event for every running request. Without any, does nothing."""
        if not self.unfinished:
            return []
        started = time.perf_counter()
        with torch.inference_mode(), cpu_threads(self._threads), self._evaluating():
            self._admit()
            events = self._hand_out(self._decode(self._make_room()))
        self.stats.steps += 1
        self.stats.seconds += time.perf_counter() - started
        return events

    def cancel(self, id: int) -> Generation | None:
        """Stop a request and free its memory, at any moment; returns what it had, or None if it had ended."""
        for row, sequence in enumerate(self._running):
            if sequence.id == id:
                self._finish(row, sequence, "cancelled")
                with torch.inference_mode():
                    self._release([row])
                return sequence.generation
        for sequence in self._waiting:
            if sequence.id == id:
                self._finish(None, sequence, "cancelled")
                self._waiting.remove(sequence)
                return sequence.generation
        return None

    def refresh(self) -> None:
        """Take over the model's present weights. Not while requests run: their cache is of the old ones."""
        if self._running:
            raise RuntimeError("refresh() while requests are running would mix two models in one completion")
        if self.model is not self._source:
            self.model.load_state_dict(self._source.state_dict())
        self._prefixes.clear()

    @property
    def unfinished(self) -> int:
        """Requests waiting or running."""
        return len(self._waiting) + len(self._running)

    @property
    def capacity(self) -> int:
        """Tokens that the cache holds: of the longest prompt and its completion together."""
        return self._cache.area

    @property
    def memory_in_use(self) -> int:
        """Tokens in the cache."""
        return sum(sequence.stored for sequence in self._running)

    @property
    def prefixes_in_use(self) -> int:
        """Bytes of kept beginnings."""
        return self._prefixes.bytes

    # Requests

    def check(self, request: Request) -> None:
        """Raise UserError for a request that could never run."""
        sampling, vocabulary = request.sampling, self.model.config.vocab_size
        if not request.prompt:
            raise UserError("the prompt is empty: the model needs at least one token to go on from")
        if not 0 <= min(request.prompt) <= max(request.prompt) < vocabulary:
            raise UserError(f"the prompt has a token outside the model's vocabulary of {vocabulary}")
        for token in sampling.logit_bias:
            if not 0 <= token < vocabulary:
                raise UserError(f"logit_bias names the token {token}, outside the vocabulary of {vocabulary}")
        if sampling.stop and self.tokenizer is None:
            raise UserError("stop strings need a tokenizer; make the engine with one, or use end_tokens")
        need = len(request.prompt) + sampling.max_tokens
        if need > self._cache.area:
            raise UserError(
                f"a prompt of {len(request.prompt)} tokens with max_tokens = {sampling.max_tokens} needs a "
                f"cache for {need}, and it holds {self._cache.area}; raise cache_bytes or lower max_tokens"
            )

    def _add(self, request: Request, streams: bool) -> Running:
        stream = None
        if self.tokenizer and (streams or request.sampling.stop):
            stream = TextStream(self.tokenizer, request.sampling.stop)
        sequence = Running(self._ids, request, tuple(request.prompt), stream)
        self._ids += 1
        self._waiting.append(sequence)
        return sequence

    def _follow(self, ended: Running, request: Request) -> Running:
        """Queue what goes on from an ended request, at the head: the memory that it left is taken up again at once."""
        self.check(request)
        sequence = self._add(request, streams=False)
        self._waiting.rotate(1)
        sequence.keeps = True
        text = [*ended.prompt, *ended.tokens]
        if request.prompt[: len(text)] == text:
            sequence.entries = ended.entries
        return sequence

    def _stream(self, request: Request) -> Iterator[Chunk]:
        sequence = self._add(request, streams=True)
        tokens = text = 0
        end = None
        try:
            while not end:
                # Another caller's steps may have taken it further meanwhile.
                if tokens == len(sequence.tokens) and not sequence.generation:
                    self.step()
                    continue
                end, so_far = sequence.generation, sequence.stream.text if sequence.stream else ""
                chunk = Chunk(
                    so_far[text:], sequence.tokens[tokens:], end.finish_reason if end else None,
                    sequence.logprobs[tokens:], sequence.top[tokens:],
                )  # fmt: skip
                tokens, text = len(sequence.tokens), len(so_far)
                yield chunk
        finally:
            self.cancel(sequence.id)

    # One step

    def _need(self, sequence: Running) -> int:
        """Columns with which a row gets somewhere; one is for a draft."""
        left = sequence.request.sampling.max_tokens - len(sequence.tokens)
        return sequence.stored + min(left, MARGIN) + 1

    def _admit(self) -> None:
        """Move requests from the queue to rows, and read all but their pending tokens."""
        first = len(self._running)
        # A nearly full batch waits for a few free rows, so that prompts are read several at a time.
        worthwhile = min(len(self._waiting), self.max_batch // 16)
        if first and self.max_batch - first < worthwhile:
            return
        columns = max(map(self._need, self._running), default=0)
        newcomers: list[Running] = []
        while self._waiting and (rows := first + len(newcomers) + 1) <= self.max_batch:
            wider = max(columns, self._need(self._waiting[0]))
            if rows > 1 and rows * wider > self._cache.area:
                break
            columns = wider
            newcomers.append(self._waiting.popleft())
        if newcomers:
            used = max((sequence.stored for sequence in self._running), default=0)
            self._cache.fit(first + len(newcomers), columns, first, used)
            for sequence in newcomers:
                sequence.started, sequence.drafted, sequence.gap = self._starts, sequence.stored, (0, 0)
                self._starts += 1
            self._prefill(newcomers)
            self._batch = None
            self.stats.peak_rows = max(self.stats.peak_rows, len(self._running))

    def _prefill(self, newcomers: list[Running]) -> None:
        """Give each newcomer the next row: a prompt that no row has yet is read, as far as its beginning isn't kept;
        others are copied."""
        rows = {sequence.prompt: row for row, sequence in enumerate(self._running)}
        resumed, fresh, followers = [], [], []
        begun: list[tuple[Running, int]] = []
        for sequence in newcomers:
            if sequence.tokens:
                resumed.append(sequence)
            elif sequence.entries:  # with the experts that were taken, which another's might not be
                begun.append((sequence, len(sequence.entries[0])))
            elif sequence.prompt in rows:
                followers.append(sequence)
            else:
                rows[sequence.prompt] = -1
                length, sequence.entries = self._prefixes.find(sequence.prompt)
                if length:
                    # The prediction module's last entry is of the token that follows, and that may be another.
                    begun.append((sequence, min(length - 1, sequence.stored)))
                else:
                    fresh.append(sequence)
        while begun:
            first, unread = len(self._running), max(sequence.stored - known for sequence, known in begun)
            few = begun[: max(1, PREFILL_TOKENS // max(1, unread))]
            for row, (sequence, known) in enumerate(few, first):
                self._cache.put(row, known, sequence.entries)
                sequence.reused, sequence.entries = known, []
                self.stats.tokens_reused += known
            newly, known_columns = zip(*few, strict=True)
            self.stats.tokens_prefilled += self._runner.read_on(newly, known_columns, first)
            self._running += newly
            del begun[: len(few)]
        for kind in (resumed, fresh):  # apart, since only what is resumed replays its experts
            kind.sort(key=lambda sequence: sequence.stored)
            while kind:
                count = 1
                while count < len(kind) and (count + 1) * kind[count].stored <= PREFILL_TOKENS:
                    count += 1
                self.stats.tokens_prefilled += self._runner.read(kind[:count], len(self._running))
                self._running += kind[:count]
                del kind[:count]
        if followers:
            rows = {sequence.prompt: row for row, sequence in enumerate(self._running)}
            first, longest = len(self._running), max(sequence.stored for sequence in followers)
            targets = range(first, first + len(followers))
            self._cache.copy([rows[sequence.prompt] for sequence in followers], targets, longest)
            self._running += followers

    def _make_room(self) -> int:
        """See that every row can grow by one step's tokens; returns how many columns are in use.

        If the area can't hold that, rows are pre-empted, the latest started first.
        """
        stored = [sequence.stored for sequence in self._running]
        while len(stored) * (max(stored) + self._stride) > self._cache.area:
            row = max(range(len(stored)), key=lambda row: self._running[row].started)
            self._running[row].routes = self._cache.routes(row, stored[row])
            self._waiting.appendleft(self._running[row])
            self._release([row])
            self.stats.preemptions += 1
            stored = [sequence.stored for sequence in self._running]
        self._cache.fit(len(stored), max(stored) + self._stride, len(stored), max(stored))
        self.stats.peak_tokens = max(self.stats.peak_tokens, sum(stored))
        return max(stored)

    def _decode(self, longest: int) -> StepOutput:
        """One token more for every row, or two."""
        started, rows = time.perf_counter(), len(self._running)
        guided = any(sequence.guides for sequence in self._running)
        # A guide must know a token before it speaks of the next, so two can't be drawn at once.
        drafting = not guided and (self._pace.choose(rows) if self._pace else self._stride == 2)
        if self._batch is None or (drafting and not self._drafting):
            self._batch = Batch.of(self._running, self._device)
        self._drafting = drafting
        if drafting:
            drawn = self._runner.speculate(self._batch, longest)
        else:
            drawn = self._runner.decode(self._batch, longest, self._guidance() if guided else None)
        if drafting:
            self.stats.drafted += rows
            self.stats.accepted += sum(drawn.counts) - rows
        if self._pace and not guided:
            self._pace.note(drafting, sum(drawn.counts), time.perf_counter() - started)
        return drawn

    def _guidance(self) -> Tensor:
        """What the guides of all rows say of their next tokens, `[rows, vocabulary]`."""
        width = self.model.config.vocab_size
        said, nothing = [agree(row.guides, row.tokens, width) for row in self._running], torch.zeros(width)
        rows = [nothing if bias is None else bias for bias in said]
        return torch.stack(rows).to(self._device)

    def _hand_out(self, drawn: StepOutput) -> list[Event]:
        events, ended = [], []
        for row, (sequence, count) in enumerate(zip(self._running, drawn.counts, strict=True)):
            reason: FinishReason | None = None
            before, wanted = len(sequence.tokens), sequence.request.sampling.top_logprobs
            for place, token in enumerate(drawn.tokens[row][:count]):
                sequence.tokens.append(token)
                sequence.logprobs.append(drawn.logprobs[row][place])
                if drawn.top is not None and wanted:
                    sequence.top.append(drawn.top[row][place][:wanted])
                if token in self.end_tokens or (sequence.stream and sequence.stream.add(token)):
                    reason = "stop"
                elif len(sequence.tokens) == sequence.request.sampling.max_tokens:
                    reason = "length"
                if reason:
                    ended.append(row)
                    self._finish(row, sequence, reason)
                    break
            if drawn.drafts:
                sequence.draft, sequence.drafted = drawn.drafts[row], sequence.stored
            text = ""
            if sequence.stream:
                text, sequence.seen = sequence.stream.text[sequence.seen :], len(sequence.stream.text)
            whole = sequence.generation
            chunk = Chunk(
                text, sequence.tokens[before:], whole.finish_reason if whole else None,
                sequence.logprobs[before:], sequence.top[before:],
            )  # fmt: skip
            events.append(Event(sequence.id, chunk, whole))
            self.stats.tokens_sampled += len(sequence.tokens) - before
        if ended:
            self._release(ended)
        return events

    def _finish(self, row: int | None, sequence: Running, reason: FinishReason) -> None:
        """Make the generation of what there is. `row`: where it runs, None if it waits."""
        tokens, text = sequence.tokens, ""
        if sequence.stream:
            if sequence.stream.finish() and reason == "length":
                reason = "stop"  # what the last token left unfinished completes a stop string
            text = sequence.stream.text
        elif self.tokenizer:
            ended = bool(tokens) and tokens[-1] in self.end_tokens
            text = self.tokenizer.decode(tokens[:-1] if ended else tokens)
        routes = sequence.routes if row is None else self._cache.routes(row, sequence.stored)
        sequence.generation = Generation(
            list(sequence.prompt),
            tokens,
            sequence.logprobs,
            reason,
            text,
            routes,
            sequence.top,
            sequence.reused,
        )
        if row is not None and sequence.keeps:
            sequence.entries = self._cache.take(row, sequence.stored)
        if row is not None and (kept := min(sequence.request.keep, sequence.stored)):
            self._prefixes.keep([*sequence.prompt, *tokens][:kept], partial(self._cache.take, row, kept))

    def _release(self, rows: Collection[int]) -> None:
        """Forget rows, and move the last ones into the holes, so that those in use stay 0 to n-1."""
        left = len(self._running) - len(rows)
        sources = [row for row in range(left, len(self._running)) if row not in rows]
        targets = [row for row in rows if row < left]
        if sources:
            self._cache.copy(sources, targets, max(self._running[row].stored for row in sources))
        for source, target in zip(sources, targets, strict=True):
            self._running[target] = self._running[source]
        del self._running[left:]
        self._batch = None

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
