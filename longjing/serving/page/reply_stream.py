"""One reply as the page shows it: asked of a model here or elsewhere, timed, and priced."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from longjing.errors import UserError
from longjing.openai_client import Endpoint, stream
from longjing.serving.chat_completions import usage
from longjing.serving.error_responses import QueueFull, ServiceClosed
from longjing.serving.page.model_pool import ModelPool, Seat
from longjing.serving.response_stream import ResponseDelta
from longjing.serving.schemas import ChatRequest
from longjing.text.template import Message

_REFRESH = 0.04  # seconds between two views of a growing reply: more often nobody sees


@dataclass(frozen=True)
class ChatOptions:
    """How to reply. `budget` 0 is for as long as there is room."""

    thinking: bool = True
    budget: int = 0
    temperature: float = 0.6


@dataclass(frozen=True)
class LocalModel:
    """A model of this page, and where its answer is shown."""

    name: str
    seat: Seat


@dataclass(frozen=True)
class PageReply:
    """What there is of a reply. Seconds are wall time; `tokens` and `cost` (of electricity) known of models here."""

    reasoning: str = ""
    answer: str = ""
    thought_seconds: float = 0.0
    seconds: float = 0.0
    tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    notices: tuple[str, ...] = ()
    problem: str = ""
    done: bool = False


async def stream_reply(
    pool: ModelPool, model: LocalModel | Endpoint, messages: Sequence[Message], options: ChatOptions
) -> AsyncIterator[PageReply]:
    """The reply as it grows, the last one `done`. What goes wrong is told in `problem`. Closing it stops the model."""
    reply = PageReply()
    try:
        replies = (
            _stream_remote(model, messages, options)
            if isinstance(model, Endpoint)
            else _stream_local(pool, model, messages, options)
        )
        async for reply in replies:
            yield reply
    except (UserError, QueueFull, ServiceClosed, ValidationError) as problem:
        yield replace(reply, problem=str(problem), done=True)


async def _stream_local(
    pool: ModelPool, model: LocalModel, messages: Sequence[Message], options: ChatOptions
) -> AsyncIterator[PageReply]:
    request = ChatRequest.model_validate({
        "messages": messages, "temperature": options.temperature, "thinking_budget": options.budget or None,
        "reasoning_effort": None if options.thinking else "none",
    })  # fmt: skip
    async with pool.use(model.name, model.seat) as served:
        jobs = await asyncio.to_thread(served.chat, request)
        response = served.worker.submit(jobs)
        growing = _GrowingReply()
        try:
            async for _, delta in response.deltas():
                counted = usage(response)
                reasoning_tokens = counted["completion_tokens_details"]["reasoning_tokens"]
                if growing.add(delta, counted["completion_tokens"], reasoning_tokens):
                    yield replace(growing.reply, cost=pool.prices.money(growing.reply.seconds))
        finally:
            served.worker.cancel(jobs)


async def _stream_remote(
    endpoint: Endpoint, messages: Sequence[Message], options: ChatOptions
) -> AsyncIterator[PageReply]:
    growing = _GrowingReply()
    async for delta in stream(endpoint, {"messages": list(messages), "temperature": options.temperature}):
        if growing.add(ResponseDelta(delta.reasoning, delta.answer, finish_reason=delta.finish_reason)):
            yield growing.reply


class _GrowingReply:
    """A reply as its deltas come, timed."""

    def __init__(self) -> None:
        self.reply = PageReply()
        self._started, self._shown = time.perf_counter(), 0.0
        self._thought: float | None = None

    def add(self, delta: ResponseDelta, tokens: int = 0, reasoning_tokens: int = 0) -> bool:
        """Take in a delta; whether it is time to show the reply again."""
        seconds, before = time.perf_counter() - self._started, self.reply
        answer = before.answer + delta.answer
        if answer and self._thought is None:
            self._thought = seconds
        self.reply = replace(
            before, reasoning=before.reasoning + delta.reasoning, answer=answer, seconds=seconds,
            thought_seconds=self._thought or seconds, notices=delta.notices,
            done=delta.finish_reason is not None, tokens=tokens, reasoning_tokens=reasoning_tokens,
        )  # fmt: skip
        due = self.reply.done or seconds - self._shown > _REFRESH
        self._shown = seconds if due else self._shown
        return due


def facts(reply: PageReply, currency: str) -> str:
    """Tokens, speed and cost in one line."""
    parts = []
    if reply.tokens:
        parts.append(f"{reply.tokens} tokens")
        parts.append(f"{reply.tokens / max(reply.seconds, 1e-9):,.0f} tokens/s")
    parts.append(f"{reply.seconds:.1f} s")
    if reply.cost is not None:
        parts.append(f"{currency}{reply.cost:.1g}" if reply.cost else f"{currency}0")
    return " · ".join(parts)
