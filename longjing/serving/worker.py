"""The one thread that drives an engine: requests come in from event loops, and what they grow by goes back."""

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import perf_counter

from longjing.errors import UserError
from longjing.generation.native import Engine, Event
from longjing.generation.native.scoring import score
from longjing.serving.error_responses import QueueFull, ServiceClosed
from longjing.serving.response_stream import Job, ResponseDelta, ResponseStream

_log = logging.getLogger(__name__)

_Delivery = tuple[ResponseStream, Job, ResponseDelta | Exception]


class EngineWorker:
    """Drives `engine` in a thread of its own. At most `queue` requests wait beyond those that have rows.

    `on_end` is called in that thread with each job that has ended, in whatever way.
    """

    def __init__(self, engine: Engine, queue: int, on_end: Callable[[Job], None] = lambda job: None) -> None:
        self.engine, self._on_end = engine, on_end
        self.capacity = engine.max_batch + queue  # requests at once
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._jobs: dict[int, tuple[Job, ResponseStream, asyncio.AbstractEventLoop]] = {}
        self._open: set[Job] = set()  # submitted and not ended
        self._lock = threading.Lock()
        self._closed, self._mean_seconds = False, 1.0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> int:
        """Requests that wait or run."""
        return len(self._open)

    def submit(self, jobs: Sequence[Job]) -> ResponseStream:
        """Queue all of them or none; what comes of them comes to the running event loop.

        Raises QueueFull and ServiceClosed. Of a request that the engine refuses the stream says so.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ServiceClosed("the server is about to leave")
            if self.failure is not None:
                raise ServiceClosed("the engine broke; see the server's log")
            if len(self._open) + len(jobs) > self.capacity:
                ahead = 1 + len(self._open) // self.engine.max_batch
                raise QueueFull(min(60, max(1, round(self._mean_seconds * ahead))))
            self._open.update(jobs)
            stream = ResponseStream(jobs)
            for job in jobs:
                self._commands.put(partial(self._start, job, stream, loop))
        return stream

    def cancel(self, jobs: Sequence[Job]) -> None:
        """Free what they hold, within a step; no more comes of them. For those that have ended it does nothing."""
        for job in jobs:
            if job.ended is None:
                self._commands.put(partial(self._cancel, job))

    def stop_accepting(self) -> None:
        """Take no more requests. Without the lock: a signal may interrupt whoever has it."""
        self._closed = True

    def dismiss_waiting(self) -> None:
        """Tell those who wait that they come too late; what has begun to run goes on. After `stop_accepting`."""
        self._commands.put(self._dismiss_waiting)

    def abort(self) -> None:
        """Tell everybody that nothing more comes, and leave, without waiting for it."""
        self._commands.put(self._leave)

    def close(self, grace: float = 0.0) -> None:
        """Take no more requests, finish what runs for up to `grace` seconds, then cancel the rest and leave."""
        self.stop_accepting()
        deadline = perf_counter() + grace
        while self._open and perf_counter() < deadline and self._thread.is_alive():
            threading.Event().wait(0.02)
        self._commands.put(self._leave)
        self._thread.join(timeout=10)

    # In the engine's thread

    def _run(self) -> None:
        try:
            while True:
                self._do_commands()
                self._deliver(self.engine.step())
        except _Leave:
            pass
        except Exception as error:  # a defect: everybody who waits is told, nobody waits for ever
            _log.exception("the engine broke")
            with self._lock:
                self.failure = error
                self._open.clear()
                self._tell_everybody(error)

    def _do_commands(self) -> None:
        """Do what was asked for; wait for it if there is nothing else to do."""
        with suppress(Empty):
            while True:
                self._commands.get(block=not self.engine.unfinished)()

    def _start(self, job: Job, stream: ResponseStream, loop: asyncio.AbstractEventLoop) -> None:
        if job.scoring is not None:
            prompt = job.request.prompt
            same = (other.scores for other in stream.jobs if other.scores and other.request.prompt is prompt)
            job.scores = next(same, []) or score(self.engine.model, prompt, job.scoring)
        first: ResponseDelta | UserError
        if job.only_prompt:  # which is scored without the cache
            job.first = perf_counter()
            first = ResponseDelta(finish_reason="length")
        else:
            try:
                id = self.engine.add(job.request, streams=job.controller is None)
                self._jobs[id] = job, stream, loop
                return
            except UserError as problem:
                first = problem
        self._end(job)
        _post(loop, [(stream, job, first)])

    def _cancel(self, job: Job) -> None:
        for id, (other, *_) in list(self._jobs.items()):
            if other is job:
                self.engine.cancel(id)
                self._forget(id)
        self._open.discard(job)

    def _dismiss_waiting(self) -> None:
        for id, (job, stream, loop) in list(self._jobs.items()):
            if all(other.first is None for other in stream.jobs):
                _post(loop, [(stream, job, ServiceClosed("the server is about to leave"))])
                self.engine.cancel(id)
                self._forget(id)

    def _deliver(self, events: Sequence[Event]) -> None:
        """Hand out what a step has made, to each event loop in one call."""
        deliveries: dict[asyncio.AbstractEventLoop, list[_Delivery]] = defaultdict(list)
        for event in events:
            job, stream, loop = self._jobs[event.id]
            delta = job.take(event)
            failure = job.failure
            if delta.finish_reason or failure:
                whole = event.generation or self.engine.cancel(event.id)  # it runs on if a stop string came
                job.reused = whole.reused if whole else 0
                self._forget(event.id)
            deliveries[loop].append((stream, job, failure or delta))
        for loop, some in deliveries.items():
            _post(loop, some)

    def _forget(self, id: int) -> None:
        job, *_ = self._jobs.pop(id)
        self._end(job)
        assert job.ended is not None
        self._mean_seconds += 0.1 * (job.ended - job.submitted - self._mean_seconds)

    def _end(self, job: Job) -> None:
        self._open.discard(job)
        job.ended = job.ended or perf_counter()
        self._on_end(job)

    def _leave(self) -> None:
        with self._lock:
            self._tell_everybody(ServiceClosed("the server left before the end"))
        for id in list(self._jobs):
            self.engine.cancel(id)
            self._forget(id)
        raise _Leave

    def _tell_everybody(self, why: Exception) -> None:
        """That nothing more comes, also those whose requests the engine hasn't seen yet."""
        waiting = list(self._jobs.values())
        with suppress(Empty):
            while True:
                command = self._commands.get_nowait()
                if isinstance(command, partial) and command.func == self._start:
                    waiting.append(command.args)
        for job, stream, loop in waiting:
            _post(loop, [(stream, job, why)])


class _Leave(Exception):
    pass


def _post(loop: asyncio.AbstractEventLoop, deliveries: Sequence[_Delivery]) -> None:
    def deliver() -> None:
        for stream, job, delta in deliveries:
            stream.deliver(job, delta)

    with suppress(RuntimeError):  # the loop is gone, and with it everybody who listened
        loop.call_soon_threadsafe(deliver)
