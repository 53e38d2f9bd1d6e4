"""One completion between the engine and its reader: what is wanted, what it grows by, and how that is handed over."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from longjing.chat.invalid_request import InvalidRequest, invalid
from longjing.chat.reasoning_controller import ReasoningController
from longjing.generation.native import Event, Request
from longjing.generation.native.scoring import Scores


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
    """One completion wanted. `controller` takes it apart; without one all of it is answer. Times are `perf_counter`'s.

    `notices`: what its reader should know anyway. `bound_by`: the parameter whose grammar binds its answer.
    `scoring`: the prompt's own log-probabilities are wanted too, with so many of the likeliest at each place. They
    are in `scores` before the first delta comes. With `only_prompt` nothing is sampled.
    """

    request: Request
    controller: ReasoningController | None
    notices: tuple[str, ...] = ()
    bound_by: str | None = None
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
        size = len(chunk.token_ids)
        self.first = self.first or now
        self.count += size
        reason, notices, reasoned = chunk.finish_reason, list(self.notices), [False] * size
        reasoning, answer = "", chunk.text
        if self.controller is not None:
            self.controller.extend(chunk.token_ids)
            reasoned = self.controller.reasoned[self.count - size :]
            if reason or self.controller.stopped:
                self.controller.finish()
            if self.controller.stopped:  # perhaps by what was held back to the end
                reason = "stop"
            if reason:
                notices += self.controller.notices(reason)
                reason = self.controller.finish_reason(reason)
            delta = self.controller.take()
            reasoning, answer = delta.reasoning, delta.answer
        if reason:
            self.ended = now
        tops: Sequence[Sequence[tuple[int, float]]] = chunk.top or [()] * size
        tokens = map(Token, chunk.token_ids, chunk.logprobs, tops, reasoned)
        return ResponseDelta(reasoning, answer, tuple(tokens), reason, tuple(notices) if reason else ())

    @property
    def failure(self) -> InvalidRequest | None:
        """Why its answer can't go on: what there is of it doesn't keep to what binds it, and so isn't given."""
        if self.controller is None or not self.controller.failure:
            return None
        return invalid(str(self.bound_by), f"the answer can't be kept to it: {self.controller.failure}")


class ResponseStream:
    """What comes of some jobs, for one reader in the event loop that submitted them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = list(jobs)
        self._unread: deque[tuple[Job, ResponseDelta | Exception]] = deque()
        self._arrived = asyncio.Event()

    def deliver(self, job: Job, delta: ResponseDelta | Exception) -> None:
        """Hand over what has come of a job, in the event loop."""
        self._unread.append((job, delta))
        self._arrived.set()

    async def deltas(self) -> AsyncIterator[tuple[int, ResponseDelta]]:
        """Deltas as they come, with the numbers of their jobs; merged as far as the reader lags behind. Raises what
        broke the engine, and ServiceClosed if it had to leave before the end."""
        left = len(self.jobs)
        while left:
            await self._arrived.wait()
            self._arrived.clear()
            merged: dict[Job, ResponseDelta] = {}
            while self._unread:
                job, delta = self._unread.popleft()
                if isinstance(delta, Exception):
                    raise delta
                merged[job] = merged[job] + delta if job in merged else delta
            for job, delta in merged.items():
                left -= delta.finish_reason is not None
                yield self.jobs.index(job), delta

    async def collect(self) -> list[ResponseDelta]:
        """Each job's completion, when all are there."""
        completions = [ResponseDelta()] * len(self.jobs)
        async for number, delta in self.deltas():
            completions[number] += delta
        return completions
