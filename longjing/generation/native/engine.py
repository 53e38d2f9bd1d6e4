"""The native engine: continuous batching over one rectangle of memory."""

import time
from collections import abc
from itertools import count
from typing import Literal

import torch

from longjing.generation.generator import Capabilities, Follow
from longjing.generation.native.prefix_cache import PrefixCache
from longjing.generation.native.runner import ModelRunner
from longjing.generation.native.scheduler import EngineStatistics, Scheduler
from longjing.generation.native.sequence import Sequence
from longjing.generation.native.speculative import Drafter, can_draft
from longjing.generation.request import Chunk, Event, Generation, Request
from longjing.model.decoder import Decoder
from longjing.model.store.checkpoint import end_tokens as end_tokens_of
from longjing.model.threads import cpu_threads, decoding_threads, is_small
from longjing.text.tokenizer import Tokenizer


class Engine:
    """Completes prompts with a decoder, which may be the very module that a trainer updates.

    Each `step` lets waiting requests in as far as rows (`max_batch`) and memory (`cache_bytes`) go, and samples a token
    for every row. What a request gets depends on its seed only, but for rounding. Drive it from one thread.

    `record_routes` keeps the experts that tokens took, for the trainer to replay. `batch_invariant`: a token's bits
    don't depend on what runs beside it, in float32 on a CPU whose products allow it; then few rows cost as much as
    sixteen, so that by default it holds for small models only. `threads`: of the CPU, by default `decoding_threads`.
    `speculate` drafts with the model's prediction module; "auto" does where that is measured to be faster.
    `end_tokens` default to the model's and the tokenizer's. A `dtype` other than the weights' makes the engine keep a
    copy. `prefix_bytes`: for beginnings of finished requests (`Request.keep`). Raises UserError for settings that can't
    be.
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
        end_tokens: abc.Collection[int] | None = None,
        dtype: torch.dtype | None = None,
        prefix_bytes: int = 0,
    ) -> None:
        drafts = can_draft(model.config, speculate)
        if end_tokens is None:
            candidates = {*end_tokens_of(model), *(tokenizer.end_ids if tokenizer else ())}
            end_tokens = {token for token in candidates if token < model.config.vocab_size}
        self.tokenizer, self.max_batch, self.stats = tokenizer, max_batch, EngineStatistics()
        self.end_tokens = frozenset(end_tokens)
        self._runner = ModelRunner(model, dtype, cache_bytes, drafts, record_routes, batch_invariant)
        self.model = self._runner.model
        self.prefixes = PrefixCache(prefix_bytes)
        self._scheduler = Scheduler(self._runner.cache, max_batch, self.prefixes, self.stats)
        self._decoding: ModelRunner | Drafter = self._runner
        if drafts:
            self._decoding = Drafter(self._runner, speculate == "auto", self.stats)
        self._ids, self._threads = count(), threads or decoding_threads(is_small(model))
        self.capabilities = Capabilities(record_routes, logits_processors=True, seeds=True, exact_logprobs=True)
        self.watcher: abc.Callable[[int, int, int], None] | None = None  # see `Generator`

    def generate(
        self,
        requests: abc.Sequence[Request],
        on_step: abc.Callable[[int, int], None] | None = None,
        follow: Follow | None = None,
    ) -> list[Generation]:
        """The completions (see `Generator`). What follows a request is read from where that ended, and goes before
        those that wait."""
        for request in requests:  # before any is queued
            self.check(request)
        sequences = [self._add(request, streams=False, retain=follow is not None) for request in requests]
        # An engine may be shared: only the events of these ids are ours.
        index_of = {sequence.id: index for index, sequence in enumerate(sequences)}
        tokens = 0
        try:
            with self._runner.evaluating():
                while index_of:
                    for event in self.step():
                        if event.id not in index_of:  # another caller's
                            continue
                        tokens += len(event.chunk.token_ids)
                        if event.generation:
                            index = index_of.pop(event.id)
                            ended = sequences[index]
                            next_request = follow(index, event.generation) if follow else None
                            if next_request is not None:
                                sequences[index] = self._follow(ended, next_request)
                                index_of[sequences[index].id] = index
                            # What was kept for the one that follows would else stay in memory until all have ended.
                            ended.entries = []
                    done = len(sequences) - len(index_of)
                    if on_step:
                        on_step(done, tokens)
                    if self.watcher:
                        self.watcher(done, len(sequences), tokens)
        finally:  # an interrupt must not leave rows behind
            for sequence in sequences:
                self.cancel(sequence.id)
        return [sequence.generation for sequence in sequences if sequence.generation]

    def stream(self, request: Request) -> abc.Iterator[Chunk]:
        """One completion in pieces, as they come. Closing the iterator cancels the request."""
        self.check(request)
        return self._stream(request)

    def _stream(self, request: Request) -> abc.Iterator[Chunk]:
        sequence = self._add(request, streams=True)
        tokens = characters = 0
        try:
            while True:
                # Another caller's steps may have taken it further meanwhile.
                if len(sequence.tokens) == tokens and not sequence.generation:
                    self.step()
                    continue
                chunk = sequence.chunk_since(tokens, characters)
                tokens, characters = tokens + len(chunk.token_ids), characters + len(chunk.text)
                yield chunk
                if chunk.finish_reason:
                    return
        finally:
            self.cancel(sequence.id)

    def add(self, request: Request, streams: bool = True) -> int:
        """Queue a request; returns the id of its events, which with `streams` have its text. Raises as `check`."""
        self.check(request)
        return self._add(request, streams).id

    def check(self, request: Request) -> None:
        """Raise UserError for a request that could never run."""
        request.check(self.model.config.vocab_size, self.capacity, self.tokenizer is not None)

    def _add(self, request: Request, streams: bool, retain: bool = False) -> Sequence:
        sequence = Sequence(next(self._ids), request, self.tokenizer, self.end_tokens, streams, retain)
        self._scheduler.waiting.append(sequence)
        return sequence

    def _follow(self, ended: Sequence, request: Request) -> Sequence:
        """Queue what goes on from an ended request, at the head: the memory that it left is taken up again at once."""
        self.check(request)
        sequence = self._add(request, streams=False, retain=True)
        self._scheduler.waiting.rotate(1)
        text = [*ended.prompt, *ended.tokens]
        if request.prompt[: len(text)] == text:
            sequence.entries = ended.entries
        return sequence

    def step(self) -> list[Event]:
        """One step of everybody: an event for every running request. Without any, does nothing."""
        if not self.unfinished:
            return []
        started = time.perf_counter()
        with torch.inference_mode(), cpu_threads(self._threads), self._runner.evaluating():
            # Newcomers first: a row that is read now decodes in this very step, too.
            for group in self._scheduler.admit():
                first_row = self._scheduler.restore(group)
                self.stats.tokens_prefilled += self._runner.read(group, first_row)
                self._scheduler.start(group)
            # Before the pass, since the pass writes: whoever has to leave must be gone by then.
            longest = self._scheduler.make_room(self._decoding.columns)
            output = self._decoding.decode(self._scheduler.batch(), longest)
            events = self._scheduler.hand_out(output)
        self.stats.steps += 1
        self.stats.seconds += time.perf_counter() - started
        return events

    def cancel(self, id: int) -> Generation | None:
        """Stop a request and free its memory, at any moment; returns what it had, or None if it had ended."""
        with torch.inference_mode():
            return self._scheduler.cancel(id)

    def update_weights(self) -> None:
        """Take over the trainer's new weights (see `Generator`). Not while requests run: their cache is of the old
        weights."""
        if self._scheduler.running:
            raise RuntimeError("update_weights() with requests running would mix two models in a completion")
        self._runner.update_weights()
        # Entries that the old weights made would be taken for the new ones'.
        self.prefixes.clear()

    @property
    def unfinished(self) -> int:
        """Requests waiting or running."""
        return len(self._scheduler.waiting) + len(self._scheduler.running)

    @property
    def capacity(self) -> int:
        """Tokens that the cache holds: of the longest prompt and its completion together."""
        return self._runner.cache.area

    @property
    def memory_in_use(self) -> int:
        """Tokens in the cache."""
        return self._scheduler.stored
