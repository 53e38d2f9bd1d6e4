"""The one thread that drives an engine, and how others hand it requests and get pieces back."""

import asyncio
import logging
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import NamedTuple

from longjing.chat.reasoning_controller import ReasoningController
from longjing.generation.native import Engine, Event, Request
from longjing.generation.native.scoring import Scores, score
from longjing.serving.errors import Busy, Closed, Refused

_log = logging.getLogger(__name__)


class Token(NamedTuple):
    """One sampled token: its log-probability, the likeliest in its place with theirs, and whether it is reasoning."""

    id: int
    logprob: float
    top: Sequence[tuple[int, float]]
    reasoned: bool


@dataclass(frozen=True)
class ResponseDelta:
    """What a completion has grown by. The last one has a `finish_reason`: "stop" or "length"."""

    reasoning: str = ""
    answer: str = ""
    tokens: tuple[Token, ...] = ()
    finish_reason: str | None = None
    notices: tuple[str, ...] = ()

    def __add__(self, other: "ResponseDelta") -> "ResponseDelta":
        return ResponseDelta(
            self.reasoning + other.reasoning, self.answer + other.answer, self.tokens + other.tokens,
            other.finish_reason, other.notices,
        )  # fmt: skip


@dataclass(eq=False)
class Job:
    """One completion wanted. `turn` takes it apart; without one all of it is answer. Times are `perf_counter`'s.

    `notices`: what its reader should know anyway. `binding`: the parameter by which a grammar binds its answer.
    `scoring`: the prompt's own log-probabilities are wanted too, with so many of the likeliest at each place. They
    are in `scores` before the first piece comes. With `only_prompt` nothing is sampled.
    """

    request: Request
    turn: ReasoningController | None
    notices: tuple[str, ...] = ()
    binding: str | None = None
    scoring: int | None = None
    only_prompt: bool = False
    scores: Scores = field(default_factory=list)
    submitted: float = field(default_factory=perf_counter)
    first: float | None = None  # when its first token came
    ended: float | None = None
    count: int = 0  # tokens sampled so far
    reused: int = 0  # tokens of the prompt that needn't be read, known at the end

    def take(self, event: Event) -> ResponseDelta:
        """What the engine's event is to the reader. In the engine's thread."""
        chunk, now = event.chunk, perf_counter()
        self.first = self.first or now
        self.count += len(chunk.token_ids)
        tops: Sequence[Sequence[tuple[int, float]]] = chunk.top or [()] * len(chunk.token_ids)
        reasoned = [False] * len(chunk.token_ids)
        reason, notices = chunk.finish_reason, [*self.notices]
        if self.turn is None:
            reasoning, answer = "", chunk.text
        else:
            turn, before = self.turn, self.count - len(chunk.token_ids)
            turn.extend(chunk.token_ids)
            reasoned = turn.reasoned[before:]
            if reason or turn.stopped:
                turn.finish()
            if turn.stopped:  # perhaps by what was held back to the end
                reason = "stop"
            if reason:
                notices += turn.notices(reason)
            delta = turn.take()
            reasoning, answer = delta.reasoning, delta.answer
        if reason:
            self.ended = now
        tokens = map(Token, chunk.token_ids, chunk.logprobs, tops, reasoned)
        return ResponseDelta(reasoning, answer, tuple(tokens), reason, tuple(notices) if reason else ())

    @property
    def failure(self) -> Refused | None:
        """Why its answer can't go on: what there is of it doesn't keep to what binds it, and so isn't given."""
        if self.turn is None or not self.turn.failure:
            return None
        return Refused(f"{self.binding}: the answer can't be kept to it: {self.turn.failure}", self.binding)


class ResponseStream:
    """What comes of some jobs, for one reader in the event loop that submitted them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self._news: deque[tuple[Job, ResponseDelta | Exception]] = deque()
        self._arrived = asyncio.Event()

    def deliver(self, job: Job, piece: ResponseDelta | Exception) -> None:
        """In the event loop."""
        self._news.append((job, piece))
        self._arrived.set()

    async def pieces(self) -> AsyncIterator[tuple[int, ResponseDelta]]:
        """Pieces as they come, with the numbers of their jobs; merged as far as the reader lags behind. Ends when all
        jobs have. Raises what broke the engine, and Closed if it had to leave before the end."""
        left = len(self.jobs)
        while left:
            await self._arrived.wait()
            self._arrived.clear()
            merged: dict[Job, ResponseDelta] = {}
            while self._news:
                job, piece = self._news.popleft()
                if isinstance(piece, Exception):
                    raise piece
                merged[job] = merged[job] + piece if job in merged else piece
            for job, piece in merged.items():
                left -= piece.finish_reason is not None
                yield self.jobs.index(job), piece

    async def whole(self) -> list[ResponseDelta]:
        """Each job's completion, when all are there."""
        pieces = [ResponseDelta()] * len(self.jobs)
        async for number, piece in self.pieces():
            pieces[number] += piece
        return pieces


_News = tuple[ResponseStream, Job, ResponseDelta | Exception]


class Worker:
    """Drives `engine` in a thread of its own. At most `queue` requests wait beyond those that have rows.

    `on_end` is called in that thread with each job that has ended, in whatever way.
    """

    def __init__(self, engine: Engine, queue: int, on_end: Callable[[Job], None] = lambda job: None) -> None:
        self.engine, self._on_end = engine, on_end
        self.most = engine.max_batch + queue  # requests at once
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._jobs: dict[int, tuple[Job, ResponseStream, asyncio.AbstractEventLoop]] = {}
        self._open: set[Job] = set()  # submitted and not ended
        self._lock = threading.Lock()
        self._closed, self._seconds = False, 1.0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> int:
        """Requests that wait or run."""
        return len(self._open)

    def submit(self, jobs: Sequence[Job]) -> ResponseStream:
        """Queue all of them or none; what comes of them comes to the running event loop.

        Raises UserError for a request that could never run, Busy and Closed.
        """
        for job in jobs:
            if not (job.only_prompt and job.request.prompt):  # which is scored without the cache
                self.engine.check(job.request)
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise Closed("the server is about to leave")
            if self.failure is not None:
                raise Closed("the engine broke; see the server's log")
            if len(self._open) + len(jobs) > self.most:
                ahead = 1 + len(self._open) // self.engine.max_batch
                raise Busy(min(60, max(1, round(self._seconds * ahead))))
            self._open.update(jobs)
            mailbox = ResponseStream(jobs)
            for job in jobs:
                self._inbox.put(partial(self._start, job, mailbox, loop))
        return mailbox

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Free what they hold, within a step; no more pieces come. For those that have ended it does nothing."""
        for job in jobs:
            if job.ended is None:
                self._inbox.put(partial(self._cancel, job))

    def refuse(self) -> None:
        """Take no more requests. Without the lock: a signal may interrupt whoever has it."""
        self._closed = True

    def dismiss(self) -> None:
        """Tell those who wait that they come too late; what has begun to run goes on. After `refuse`."""
        self._inbox.put(self._dismiss)

    def break_off(self) -> None:
        """Tell everybody that nothing more comes, and leave, without waiting for it."""
        self._inbox.put(self._leave)

    def close(self, grace: float = 0.0) -> None:
        """Take no more requests, finish what runs for up to `grace` seconds, then cancel the rest and leave."""
        self.refuse()
        deadline = perf_counter() + grace
        while self._open and perf_counter() < deadline and self._thread.is_alive():
            threading.Event().wait(0.02)
        self._inbox.put(self._leave)
        self._thread.join(timeout=10)

    # In the engine's thread

    def _run(self) -> None:
        try:
            while True:
                self._obey()
                self._distribute(self.engine.step())
        except _Leave:
            pass
        except Exception as error:  # a defect: everybody who waits is told, nobody waits for ever
            _log.exception("the engine broke")
            with self._lock:
                self.failure = error
                self._open.clear()
                self._tell_everybody(error)

    def _obey(self) -> None:
        """Do what was asked for; wait for it if there is nothing else to do."""
        with suppress(Empty):
            while True:
                self._inbox.get(block=not self.engine.unfinished)()

    def _start(self, job: Job, mailbox: ResponseStream, loop: asyncio.AbstractEventLoop) -> None:
        if job.scoring is not None:
            prompt = job.request.prompt
            known = (
                other.scores for other in mailbox.jobs if other.scores and other.request.prompt is prompt
            )
            job.scores = next(known, []) or score(self.engine.model, prompt, job.scoring)
        if job.only_prompt:
            self._open.discard(job)
            job.first = job.ended = perf_counter()
            _tell(loop, [(mailbox, job, ResponseDelta(finish_reason="length"))])
            return self._on_end(job)
        self._jobs[self.engine.add(job.request, streams=job.turn is None)] = job, mailbox, loop

    def _cancel(self, job: Job) -> None:
        for id, (other, *_) in list(self._jobs.items()):
            if other is job:
                self.engine.cancel(id)
                self._end(id)
        self._open.discard(job)

    def _dismiss(self) -> None:
        for id, (job, mailbox, loop) in list(self._jobs.items()):
            if all(other.first is None for other in mailbox.jobs):
                _tell(loop, [(mailbox, job, Closed("the server is about to leave"))])
                self.engine.cancel(id)
                self._end(id)

    def _distribute(self, events: Sequence[Event]) -> None:
        news: dict[asyncio.AbstractEventLoop, list[_News]] = defaultdict(list)
        for event in events:
            job, mailbox, loop = self._jobs[event.id]
            piece = job.take(event)
            failure = job.failure
            if piece.finish_reason or failure:
                whole = event.generation or self.engine.cancel(event.id)  # it runs on if a stop string came
                job.reused = whole.reused if whole else 0
                self._end(event.id)
            news[loop].append((mailbox, job, failure or piece))
        for loop, pieces in news.items():
            _tell(loop, pieces)

    def _end(self, id: int) -> None:
        job, *_ = self._jobs.pop(id)
        self._open.discard(job)
        job.ended = job.ended or perf_counter()
        self._seconds += 0.1 * (job.ended - job.submitted - self._seconds)
        self._on_end(job)

    def _leave(self) -> None:
        with self._lock:
            self._tell_everybody(Closed("the server left before the end"))
        for id in list(self._jobs):
            self.engine.cancel(id)
            self._end(id)
        raise _Leave

    def _tell_everybody(self, why: Exception) -> None:
        """That nothing more comes, also those whose requests the engine hasn't seen yet."""
        waiting = list(self._jobs.values())
        with suppress(Empty):
            while True:
                action = self._inbox.get_nowait()
                if isinstance(action, partial) and action.func == self._start:
                    waiting.append(action.args)
        for job, mailbox, loop in waiting:
            _tell(loop, [(mailbox, job, why)])


class _Leave(Exception):
    pass


def _tell(loop: asyncio.AbstractEventLoop, news: Sequence[_News]) -> None:
    def deliver() -> None:
        for mailbox, job, piece in news:
            mailbox.deliver(job, piece)

    with suppress(RuntimeError):  # the loop is gone, and with it everybody who listened
        loop.call_soon_threadsafe(deliver)
