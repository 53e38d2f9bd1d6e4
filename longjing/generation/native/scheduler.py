"""Who runs: which requests have rows of the cache, which wait, and who has to leave when memory runs out."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from longjing.batching import in_order
from longjing.errors import UserError
from longjing.generation.native.kv_cache import KVCache
from longjing.generation.native.prefix_cache import PrefixCache
from longjing.generation.native.sampling import StepOutput
from longjing.generation.native.sequence import Batch, Sequence
from longjing.generation.request import Event, FinishReason, Generation

PREFILL_TOKENS = 4096  # per forward pass, padding included; a longer prompt goes alone
HEADROOM = 64  # columns that a newcomer must find free for everyone, so that it isn't pre-empted at once


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
        """Share of the drafted tokens that were what the model then sampled."""
        return self.accepted / max(1, self.drafted)


class Scheduler:
    """A queue of those who wait, and the rows of those who run.

    It knows the cache and how much fits, and nothing of the model. `running[i]` has row i; requests get rows in the
    order of the queue.
    """

    def __init__(self, cache: KVCache, max_batch: int, prefixes: PrefixCache, stats: EngineStatistics) -> None:
        if max_batch < 1:
            raise UserError(f"the engine needs at least one row, not max_batch = {max_batch}")
        if cache.keeps_routes and prefixes.capacity:
            raise UserError("record_routes needs every token to be read: leave out prefix_bytes")
        self._cache, self._max_batch, self._prefixes, self._stats = cache, max_batch, prefixes, stats
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._batch: Batch | None = None
        self._started = 0

    # Rows for those who wait

    def admit(self) -> list[list[Sequence]]:
        """Take requests from the queue as far as rows and memory go; returns groups to be read together. Before a group
        is read it needs `restore`, and afterwards `start`."""
        first = len(self.running)
        # A nearly full batch waits for a few free rows, so that prompts are read several at a time.
        worthwhile = min(len(self.waiting), self._max_batch // 16)
        if first and self._max_batch - first < worthwhile:
            return []
        columns = max(map(_columns_wanted, self.running), default=0)
        newcomers: list[Sequence] = []
        while self.waiting and (rows := first + len(newcomers) + 1) <= self._max_batch:
            wider = max(columns, _columns_wanted(self.waiting[0]))
            # All rows are as wide as the widest. A single row always gets in: `check` has seen to it that it fits.
            if rows > 1 and rows * wider > self._cache.area:
                break
            columns = wider
            newcomers.append(self.waiting.popleft())
        if not newcomers:
            return []
        longest = max((sequence.stored for sequence in self.running), default=0)
        # Once for all newcomers: to cut the rectangle anew may move what is in it.
        self._cache.fit(first + len(newcomers), columns, first, longest)
        for sequence in newcomers:
            sequence.start(self._started)
            self._started += 1
        return self._groups(newcomers)

    def _groups(self, newcomers: list[Sequence]) -> list[list[Sequence]]:
        """By how much is known of them, since a pass reads whole prompts or the rests of some, and replays the experts
        of all its rows or of none."""
        restored: list[Sequence] = []  # `entries` has the beginning
        resumed: list[Sequence] = []  # pre-empted, and read again with what they had generated
        fresh: list[Sequence] = []
        copied: list[Sequence] = []  # another row has the same prompt
        prompts = {sequence.prompt for sequence in self.running}
        for sequence in newcomers:
            if sequence.tokens:
                resumed.append(sequence)
            elif sequence.entries:  # with the experts that were taken, which another's might not be
                sequence.cached = len(sequence.entries[0])
                restored.append(sequence)
            # The samples of a group share their prompt: it is read once, and its entries are copied.
            elif sequence.prompt in prompts:
                sequence.cached = sequence.stored
                copied.append(sequence)
            else:
                prompts.add(sequence.prompt)
                length, sequence.entries = self._prefixes.match(sequence.prompt)
                # The prediction module's last entry is of the token that follows, and that may be another.
                sequence.cached = min(length - 1, sequence.stored) if length else 0
                (restored if length else fresh).append(sequence)
        return [
            *_split(restored),
            *_split(sorted(resumed, key=lambda sequence: sequence.stored)),
            *_split(sorted(fresh, key=lambda sequence: sequence.stored)),
            # Last of all, when the rows that they are copied from have been read.
            *([copied] if copied else []),
        ]

    def restore(self, group: list[Sequence]) -> int:
        """Fill the next rows with what is known of a group; returns the first of them."""
        first = len(self.running)
        rows = {sequence.prompt: row for row, sequence in enumerate(self.running)}
        sources, targets = [], []
        for row, sequence in enumerate(group, first):
            if sequence.entries:
                self._cache.insert(row, sequence.cached, sequence.entries)
                sequence.reused, sequence.entries = sequence.cached, []
                self._stats.tokens_reused += sequence.cached
            elif sequence.cached:
                sources.append(rows[sequence.prompt])
                targets.append(row)
        if sources:
            self._cache.copy(sources, targets, max(sequence.cached for sequence in group))
        return first

    def start(self, group: list[Sequence]) -> None:
        """The group's prompts are read: it runs."""
        self.running += group
        self._batch = None
        self._stats.peak_rows = max(self._stats.peak_rows, len(self.running))

    # Memory for those who run

    def batch(self) -> Batch:
        """Those who run as tensors, which stay while no row comes or goes."""
        if self._batch is None:
            self._batch = Batch.of(list(self.running), self._cache.device)
        return self._batch

    def make_room(self, step: int) -> int:
        """Make sure that every row can grow by `step` columns; returns how many the longest has in use.

        If the area can't hold that, rows are pre-empted, the latest started first: they go back to the head of the
        queue with all that they have.
        """
        stored = [sequence.stored for sequence in self.running]
        while len(stored) * (max(stored) + step) > self._cache.area:
            # The latest has the least to lose; and the earliest always get on, so that nobody is sent back for ever.
            row = max(range(len(stored)), key=lambda row: self.running[row].started)
            self.running[row].routes = self._cache.routes(row, stored[row])  # the trainer replays what was taken first
            self.waiting.appendleft(self.running[row])
            self.release([row])
            self._stats.preemptions += 1
            stored = [sequence.stored for sequence in self.running]
        self._cache.fit(len(stored), max(stored) + step, len(stored), max(stored))
        self._stats.peak_tokens = max(self._stats.peak_tokens, sum(stored))
        return max(stored)

    @property
    def stored(self) -> int:
        """Tokens in the cache."""
        return sum(sequence.stored for sequence in self.running)

    # The end

    def hand_out(self, output: StepOutput) -> list[Event]:
        """Give every running request what was sampled for it, and let those go that have ended."""
        events, ended = [], []
        for row, sequence in enumerate(self.running):
            tokens, count = len(sequence.tokens), output.counts[row]
            characters = len(sequence.stream.text) if sequence.stream else 0
            top = None if output.top is None else output.top[row]
            reason = sequence.extend(output.tokens[row][:count], output.logprobs[row], top)
            if reason:
                self.finish(row, reason)
                ended.append(row)
            if output.drafts:
                sequence.draft, sequence.drafted = output.drafts[row], sequence.stored
            chunk = sequence.chunk_since(tokens, characters)
            self._stats.tokens_sampled += len(chunk.token_ids)
            events.append(Event(sequence.id, chunk, sequence.generation))
        if ended:
            self.release(ended)
        return events

    def finish(self, row: int, reason: FinishReason) -> None:
        """End the request in a row, and keep of it what a later one may begin with. The row is still to be released."""
        sequence = self.running[row]
        sequence.finish(reason, self._cache.routes(row, sequence.stored))
        if sequence.retain:
            sequence.entries = self._cache.extract(row, sequence.stored)
        kept = min(sequence.request.keep, sequence.stored)
        if kept:
            text = [*sequence.prompt, *sequence.tokens]
            self._prefixes.insert(text[:kept], partial(self._cache.extract, row, kept))

    def cancel(self, id: int) -> Generation | None:
        """End a request that waits or runs, and free its memory; returns what it had, or None if there is no such."""
        for row, sequence in enumerate(self.running):
            if sequence.id == id:
                self.finish(row, "cancelled")
                self.release([row])
                return sequence.generation
        for sequence in self.waiting:
            if sequence.id == id:
                sequence.finish("cancelled", sequence.routes)
                self.waiting.remove(sequence)
                return sequence.generation
        return None

    def release(self, rows: Collection[int]) -> None:
        """Forget rows, and move the last ones into the holes, so that those in use stay 0 to n-1."""
        left = len(self.running) - len(rows)
        # Only as many rows move as there are holes before the new end; the order of rows means nothing.
        sources = [row for row in range(left, len(self.running)) if row not in rows]
        targets = [row for row in rows if row < left]
        if sources:
            self._cache.copy(sources, targets, max(self.running[row].stored for row in sources))
        for source, target in zip(sources, targets, strict=True):
            self.running[target] = self.running[source]
        del self.running[left:]
        self._batch = None


def _columns_wanted(sequence: Sequence) -> int:
    """Columns with which a row gets somewhere; one is for a draft."""
    left = sequence.request.sampling.max_tokens - len(sequence.tokens)
    return sequence.stored + min(left, HEADROOM) + 1


def _split(sequences: list[Sequence]) -> list[list[Sequence]]:
    """Groups in the same order, each of at most `PREFILL_TOKENS` to read, padding included."""
    # A pass is as wide as its longest; sorted by length, neighbours are padded by little.
    return in_order(sequences, lambda sequence: sequence.stored - sequence.cached, PREFILL_TOKENS)
