"""POST /v1/responses: OpenAI's newer form, as far as text and reasoning go. Nothing is stored.

The reasoning is an item of its own before the message, with its text in full.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from longjing.serving.errors import Refused
from longjing.serving.schemas import (
    ChatMessage,
    ChatRequest,
    Effort,
    JsonFormat,
    JsonSchema,
    SamplingFields,
    SchemaFormat,
    Strict,
    Text,
    TextFormat,
)
from longjing.serving.service import Served
from longjing.serving.worker import Mailbox, Piece


class Part(Strict):
    """A piece of a message's content."""

    model_config = ConfigDict(extra="ignore", strict=True)  # of an answer: annotations, logprobs

    type: Literal["input_text", "output_text", "text"]
    text: Text


class Message(Strict):
    """A message, given or sent back as it came."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]


class ReasoningItem(Strict):
    """Reasoning sent back: accepted, and never read again."""

    model_config = ConfigDict(extra="ignore", strict=True)

    type: Literal["reasoning"]


class FlatSchema(Strict):
    """A JSON schema as this endpoint takes it: its fields not one level down."""

    type: Literal["json_schema"]
    name: str
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextSettings(Strict):
    format: Annotated[TextFormat | JsonFormat | FlatSchema, Field(discriminator="type")] | None = None


class Reasoning(Strict):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None  # the text is given in full
    generate_summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesRequest(SamplingFields):
    """POST /v1/responses."""

    input: Text | Annotated[list[Message | ReasoningItem], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    reasoning: Reasoning | None = None
    text: TextSettings | None = None
    thinking_budget: Annotated[int, Field(ge=0)] | None = None
    include: Annotated[list[Literal["reasoning.encrypted_content"]], Field(max_length=0)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    store: bool | None = Field(None, description="nothing is stored, whatever it says")

    def as_chat(self) -> ChatRequest:
        """The same as a chat. Raises Refused if it holds no message."""
        messages = (
            [] if self.instructions is None else [ChatMessage(role="system", content=self.instructions)]
        )
        if isinstance(self.input, str):
            messages.append(ChatMessage(role="user", content=self.input))
        else:
            given = (item for item in self.input if isinstance(item, Message))
            messages += [ChatMessage(role=item.role, content=_text(item.content)) for item in given]
        if not messages:
            raise Refused("input: it holds no message", "input")
        shared = {name: getattr(self, name) for name in SamplingFields.model_fields}
        return ChatRequest(
            **shared, messages=messages, max_completion_tokens=self.max_output_tokens,
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
            thinking_budget=self.thinking_budget, response_format=self._format(),
        )  # fmt: skip

    @contextmanager
    def in_own_names(self) -> Iterator[None]:
        """What is refused as a chat is refused by the names of this endpoint."""
        try:
            yield
        except Refused as problem:
            own = _NAMES.get(problem.parameter or "", problem.parameter)
            raise Refused(str(problem), own, problem.code) from problem

    def _format(self) -> TextFormat | JsonFormat | SchemaFormat | None:
        wanted = self.text.format if self.text else None
        if isinstance(wanted, FlatSchema):
            schema = JsonSchema(name=wanted.name, schema=wanted.schema_)
            return SchemaFormat(type="json_schema", json_schema=schema)
        return wanted


_NAMES = {"messages": "input", "response_format": "text", "reasoning_effort": "reasoning"}


def _text(content: str | list[Part]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


class ResponsesReply:
    """Writes the replies to one request."""

    def __init__(self, asked: ResponsesRequest, served: Served) -> None:
        self._asked, self._served, self._created = asked, served, time.time()
        self._id, self._reasoning, self._message = (
            f"{kind}_{secrets.token_hex(12)}" for kind in ("resp", "rs", "msg")
        )

    def whole(self, mailbox: Mailbox, pieces: Sequence[Piece]) -> dict[str, Any]:
        """All of it, when it is there; the head of it before."""
        piece = pieces[0]
        ended = piece.finish_reason is not None
        cut = piece.finish_reason == "length"
        status = "in_progress" if not ended else "incomplete" if cut else "completed"
        output = []
        if piece.reasoning:
            output.append(
                self._reasoning_item(piece, "completed" if piece.answer or not cut else "incomplete")
            )
        if ended:
            output.append(self._message_item(piece, status))
        job = mailbox.jobs[0]
        read, sampled, asked = len(job.request.prompt), job.count, self._asked
        sampling = job.request.sampling
        return {
            "id": self._id, "object": "response", "created_at": self._created, "model": self._served.name,
            "status": status, "output": output if ended else [], "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": asked.instructions, "metadata": asked.metadata or {}, "tools": [],
            "tool_choice": asked.tool_choice or "auto", "parallel_tool_calls": bool(asked.parallel_tool_calls),
            "temperature": sampling.temperature, "top_p": sampling.top_p, "truncation": "disabled",
            "max_output_tokens": asked.max_output_tokens, "previous_response_id": None, "store": False,
            "reasoning": asked.reasoning.model_dump() if asked.reasoning else None,
            "text": {"format": asked.text.format.model_dump(by_alias=True)} if asked.text and asked.text.format
            else {"format": {"type": "text"}},
            "usage": None if not ended else {
                "input_tokens": read, "input_tokens_details": {"cached_tokens": job.reused, "cache_write_tokens": 0},
                "output_tokens": sampled, "total_tokens": read + sampled,
                "output_tokens_details": {"reasoning_tokens": job.turn.reasoning_tokens if job.turn else 0},
            },
            "notices": piece.notices,
        }  # fmt: skip

    async def events(self, mailbox: Mailbox) -> AsyncIterator[dict[str, Any] | str]:
        """It in pieces, each event with its number."""
        number = 0
        async for event in self._events(mailbox):
            yield event | {"sequence_number": number}
            number += 1

    async def _events(self, mailbox: Mailbox) -> AsyncIterator[dict[str, Any]]:
        whole = Piece()
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self.whole(mailbox, [whole])}
        thinking = answering = False
        async for _, piece in mailbox.pieces():
            if piece.reasoning:
                if not thinking:
                    thinking = True
                    item = self._reasoning_item(Piece(), "in_progress")
                    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
                where = {"item_id": self._reasoning, "output_index": 0, "content_index": 0}
                yield {"type": "response.reasoning_text.delta", "delta": piece.reasoning, **where}
            whole += piece
            where = {"item_id": self._message, "output_index": int(thinking), "content_index": 0}
            if not answering and (piece.answer or piece.finish_reason):
                answering = True
                if thinking:
                    for event in self._reasoned(whole):
                        yield event
                item = self._message_item(None, "in_progress")
                yield {"type": "response.output_item.added", "output_index": int(thinking), "item": item}
                yield {"type": "response.content_part.added", "part": _part(""), **where}
            if piece.answer:
                yield {"type": "response.output_text.delta", "delta": piece.answer, "logprobs": [], **where}
        yield {"type": "response.output_text.done", "text": whole.answer, "logprobs": [], **where}
        yield {"type": "response.content_part.done", "part": _part(whole.answer), **where}
        response = self.whole(mailbox, [whole])
        yield {
            "type": "response.output_item.done",
            "output_index": int(thinking),
            "item": response["output"][-1],
        }
        yield {"type": f"response.{response['status']}", "response": response}

    def _reasoned(self, whole: Piece) -> list[dict[str, Any]]:
        where = {"item_id": self._reasoning, "output_index": 0, "content_index": 0}
        item = self._reasoning_item(whole, "completed")
        return [
            {"type": "response.reasoning_text.done", "text": whole.reasoning, **where},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
        ]

    def _reasoning_item(self, piece: Piece, status: str) -> dict[str, Any]:
        content = [{"type": "reasoning_text", "text": piece.reasoning}] if piece.reasoning else []
        return {
            "id": self._reasoning, "type": "reasoning", "summary": [], "content": content, "status": status
        }  # fmt: skip

    def _message_item(self, piece: Piece | None, status: str) -> dict[str, Any]:
        content = [] if piece is None else [_part(piece.answer)]
        return {
            "id": self._message, "type": "message", "role": "assistant", "status": status, "content": content
        }  # fmt: skip


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
