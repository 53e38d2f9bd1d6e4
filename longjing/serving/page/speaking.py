"""One reply as the page shows it: asked of a model here or elsewhere, timed, and priced."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from longjing.errors import UserError
from longjing.openai_client import Endpoint, stream
from longjing.serving.chat import usage
from longjing.serving.errors import Busy, Closed, Refused
from longjing.serving.messages import ChatMessage
from longjing.serving.page.models import Choices, Seat
from longjing.serving.schemas import ChatRequest
from longjing.serving.worker import ResponseDelta

Message = Mapping[str, str]
_PACE = 0.04  # seconds between two views of a growing reply: more often nobody sees


@dataclass(frozen=True)
class ChatOptions:
    """How to reply. `budget` 0 is for as long as there is room."""

    thinking: bool = True
    budget: int = 0
    temperature: float = 0.6


@dataclass(frozen=True)
class Local:
    """A model of this page, and where its answer is shown."""

    name: str
    seat: Seat


@dataclass(frozen=True)
class Reply:
    """What there is of a reply. Seconds are of wall time; `tokens` and `cost` (in money, of electricity) are known of a
    model here only."""

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
    choices: Choices, who: Local | Endpoint, messages: Sequence[Message], wish: ChatOptions
) -> AsyncIterator[Reply]:
    """The reply as it grows, the last one `done`. What goes wrong is told in `problem`. Closing it stops the model."""
    reply = Reply()
    try:
        grown = (
            _elsewhere(who, messages, wish)
            if isinstance(who, Endpoint)
            else _here(choices, who, messages, wish)
        )
        async for reply in grown:
            yield reply
    except (UserError, Refused, Busy, Closed, ValidationError) as problem:
        yield replace(reply, problem=str(problem), done=True)


async def _here(
    choices: Choices, who: Local, messages: Sequence[Message], wish: ChatOptions
) -> AsyncIterator[Reply]:
    asked = ChatRequest(
        messages=[ChatMessage(role=message["role"], content=message["content"]) for message in messages],  # type: ignore[arg-type]
        temperature=wish.temperature, thinking_budget=wish.budget or None,
        reasoning_effort=None if wish.thinking else "none",
    )  # fmt: skip
    async with choices.asked(who.name, who.seat) as served:
        jobs = await asyncio.to_thread(served.chat, asked)
        mailbox = served.worker.submit(jobs)
        growing = _Growing()
        try:
            async for _, piece in mailbox.pieces():
                counted = usage(mailbox)
                if growing.add(
                    piece, tokens=counted["completion_tokens"],
                    reasoning_tokens=counted["completion_tokens_details"]["reasoning_tokens"],
                ):  # fmt: skip
                    yield replace(growing.reply, cost=choices.prices.money(growing.reply.seconds))
        finally:
            served.worker.cancel(jobs)


async def _elsewhere(who: Endpoint, messages: Sequence[Message], wish: ChatOptions) -> AsyncIterator[Reply]:
    growing = _Growing()
    fields = {"messages": list(messages), "temperature": wish.temperature}
    async for delta in stream(who, fields):
        if growing.add(ResponseDelta(delta.reasoning, delta.answer, finish_reason=delta.finish_reason)):
            yield growing.reply


class _Growing:
    """A reply as its pieces come, timed."""

    def __init__(self) -> None:
        self.reply = Reply()
        self._started, self._shown = time.perf_counter(), 0.0
        self._thought: float | None = None

    def add(self, piece: ResponseDelta, tokens: int = 0, reasoning_tokens: int = 0) -> bool:
        """Take in a piece; whether it is time to show the reply again."""
        seconds, before = time.perf_counter() - self._started, self.reply
        answer = before.answer + piece.answer
        if answer and self._thought is None:
            self._thought = seconds
        self.reply = replace(
            before, reasoning=before.reasoning + piece.reasoning, answer=answer, seconds=seconds,
            thought_seconds=self._thought or seconds, notices=piece.notices,
            done=piece.finish_reason is not None, tokens=tokens, reasoning_tokens=reasoning_tokens,
        )  # fmt: skip
        due = self.reply.done or seconds - self._shown > _PACE
        self._shown = seconds if due else self._shown
        return due


def facts(reply: Reply, currency: str) -> str:
    """Tokens, speed and cost in one line."""
    said = []
    if reply.tokens:
        said.append(f"{reply.tokens} tokens")
        said.append(f"{reply.tokens / max(reply.seconds, 1e-9):,.0f} tokens/s")
    said.append(f"{reply.seconds:.1f} s")
    if reply.cost is not None:
        said.append(f"{currency}{reply.cost:.1g}" if reply.cost else f"{currency}0")
    return " · ".join(said)
