"""POST /v1/responses: OpenAI's newer form, as far as text, reasoning and tools go.

Of a reply its items are kept for a while, unless `store` is false, so that they can be referred to.

The reasoning is an item of its own before the message, with its text in full; calls of tools follow.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from longjing.serving.chat import described
from longjing.serving.items import Items
from longjing.serving.responses_request import ResponsesRequest
from longjing.serving.service import Served
from longjing.serving.tools import Call, CallStream, left_out
from longjing.serving.worker import ResponseDelta, ResponseStream

Event = dict[str, Any]


class ResponsesReply:
    """Writes the reply to one request."""

    def __init__(self, asked: ResponsesRequest, served: Served, kept: Items) -> None:
        self._asked, self._served, self._kept, self._created = asked, served, kept, time.time()
        self._id, self._reasoning, self._message = (
            f"{kind}_{secrets.token_hex(12)}" for kind in ("resp", "rs", "msg")
        )
        self._events = 0

    def whole(self, mailbox: ResponseStream, pieces: Sequence[ResponseDelta]) -> dict[str, Any]:
        """All of it, when it is there."""
        (piece,) = pieces
        answer = self._calls()
        said, calls = answer.take(piece)
        status = _status(piece)
        output = []
        if piece.reasoning:
            output.append(self._reasoning_item(piece.reasoning, "completed" if said or calls else status))
        if said or not calls:
            output.append(self._message_item(said, status, piece))
        return self._response(mailbox, piece, [*output, *map(_call_item, calls)], answer.notices)

    async def events(self, mailbox: ResponseStream) -> AsyncIterator[Event]:
        """It in pieces, each event with its number."""
        async for event in self._stream(mailbox):
            yield self.numbered(event)

    def _calls(self) -> CallStream:
        asked = self._asked
        return CallStream(
            bool(asked.tools) and asked.tool_choice != "none", asked.parallel_tool_calls is not False
        )

    @property
    def _left_out(self) -> list[str]:
        asked = self._asked
        return left_out(asked.tools or (), asked.tool_choice, self._served.tokenizer.template)

    def numbered(self, event: Event) -> Event:
        """The event with its place in the stream."""
        self._events += 1
        return event | {"sequence_number": self._events - 1}

    async def _stream(self, mailbox: ResponseStream) -> AsyncIterator[Event]:
        whole, answer, said, calls = ResponseDelta(), self._calls(), "", list[Call]()
        unsaid = list[Event]()  # tokens that have made no text yet
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self._response(mailbox, whole, [])}
        items = list[Event]()  # in the order of their beginnings; a text before the reasoning is possible
        thought, message = (_Item(self._reasoning, "reasoning_text"), _Item(self._message, "output_text"))

        def begin(item: _Item, form: Event) -> Iterator[Event]:
            item.place = len(items)
            items.append(form)
            yield {
                "type": "response.output_item.added",
                "output_index": item.place,
                "item": form | {"content": []},
            }
            yield {"type": "response.content_part.added", "part": item.part(""), **item.where}

        def end(item: _Item, form: Event) -> Iterator[Event]:
            (part,) = form["content"]
            more: Event = {"logprobs": part["logprobs"]} if item is message else {}
            yield {"type": f"response.{item.kind}.done", "text": part["text"], **more, **item.where}
            yield {"type": "response.content_part.done", "part": part, **item.where}
            yield self._done(items, item.place, form)

        async for _, piece in mailbox.pieces():
            whole += piece
            new, calls = answer.take(piece)
            said += new
            unsaid += self._logprobs(piece)
            thinking = thought.place >= 0
            if piece.reasoning:
                if not thinking:
                    for event in begin(thought, self._reasoning_item("", "in_progress")):
                        yield event
                yield {"type": "response.reasoning_text.delta", "delta": piece.reasoning, **thought.where}
            ended = piece.finish_reason is not None
            # What is said in the very piece in which the reasoning begins may have been said before it.
            if thought.place >= 0 and not thought.closed and ((new and thinking) or ended):
                thought.closed = True
                status = "completed" if said or calls else _status(whole)
                for event in end(thought, self._reasoning_item(whole.reasoning, status)):
                    yield event
            if message.place < 0 and (new or (ended and not calls)):
                for event in begin(message, self._message_item("", "in_progress")):
                    yield event
            if new:
                kind = "response.output_text.delta"
                yield {"type": kind, "delta": new, "logprobs": unsaid, **message.where}
                unsaid = []
        if message.place >= 0:
            for event in end(message, self._message_item(said, _status(whole), whole)):
                yield event
        for call in calls:
            for event in self._called(items, call):
                yield event
        response = self._response(mailbox, whole, items, answer.notices)
        yield {"type": f"response.{response['status']}", "response": response}

    def _called(self, items: list[Event], call: Call) -> Iterator[Event]:
        form, place = _call_item(call), len(items)
        items.append(form)
        where = {"item_id": form["id"], "output_index": place}
        begun = form | {"arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": place, "item": begun}
        kind = "response.function_call_arguments"
        if call.arguments:
            yield {"type": f"{kind}.delta", "delta": call.arguments, **where}
        yield {"type": f"{kind}.done", "name": call.name, "arguments": call.arguments, **where}
        yield self._done(items, place, form)

    def _done(self, items: list[Event], place: int, form: Event) -> Event:
        items[place] = form
        return {"type": "response.output_item.done", "output_index": place, "item": form}

    def _response(
        self, mailbox: ResponseStream, piece: ResponseDelta, output: list[Event], notices: Sequence[str] = ()
    ) -> Event:
        """The response as far as it has come, with what it consists of."""
        if piece.finish_reason and self._asked.store is not False:
            self._kept.keep(output)
        ended, status = piece.finish_reason is not None, _status(piece)
        job, asked = mailbox.jobs[0], self._asked
        read, sampled, sampling = len(job.request.prompt), job.count, job.request.sampling
        choice = asked.tool_choice or "auto"
        return {
            "id": self._id, "object": "response", "created_at": self._created, "model": self._served.name,
            "status": status, "output": output, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions, "metadata": asked.metadata or {},
            "tools": [tool.model_dump() | {"strict": bool(tool.strict)} for tool in asked.tools or ()],
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "truncation": "disabled",
            "max_output_tokens": asked.max_output_tokens, "previous_response_id": None,
            "store": asked.store is not False, "top_logprobs": asked.top_logprobs or 0,
            "reasoning": asked.reasoning.model_dump() if asked.reasoning else None,
            "text": {"format": asked.text.format.model_dump(by_alias=True)} if asked.text and asked.text.format
            else {"format": {"type": "text"}},
            "usage": None if not ended else {
                "input_tokens": read, "input_tokens_details": {"cached_tokens": job.reused, "cache_write_tokens": 0},
                "output_tokens": sampled, "total_tokens": read + sampled,
                "output_tokens_details": {"reasoning_tokens": job.turn.reasoning_tokens if job.turn else 0},
            },
            "notices": (*piece.notices, *notices, *self._left_out) if ended else (),
        }  # fmt: skip

    def _reasoning_item(self, text: str, status: str) -> Event:
        content = [{"type": "reasoning_text", "text": text}]
        return {
            "id": self._reasoning, "type": "reasoning", "summary": [], "content": content, "status": status
        }  # fmt: skip

    def _logprobs(self, piece: ResponseDelta) -> list[Event]:
        ends, tokenizer = self._served.engine.end_tokens, self._served.tokenizer
        shown = (token for token in piece.tokens if not token.reasoned and token.id not in ends)
        return [described(token, tokenizer) for token in shown] if self._asked.wants_logprobs else []

    def _message_item(self, text: str, status: str, piece: ResponseDelta | None = None) -> Event:
        logprobs = self._logprobs(piece) if piece else []
        return {
            "id": self._message, "type": "message", "role": "assistant", "status": status,
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}],
        }  # fmt: skip


class _Item:
    """One with a text that grows. `place`: its index in the output, once it has begun."""

    def __init__(self, id: str, kind: str) -> None:
        self._id, self.kind, self.place, self.closed = id, kind, -1, False

    @property
    def where(self) -> Event:
        return {"item_id": self._id, "output_index": self.place, "content_index": 0}

    def part(self, text: str) -> Event:
        more: Event = {"annotations": [], "logprobs": []} if self.kind == "output_text" else {}
        return {"type": self.kind, "text": text, **more}


def _status(piece: ResponseDelta) -> str:
    if piece.finish_reason is None:
        return "in_progress"
    return "incomplete" if piece.finish_reason == "length" else "completed"


def _call_item(call: Call) -> Event:
    return {
        "id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "call_id": call.id, "name": call.name,
        "arguments": call.arguments, "status": "completed" if call.whole else "incomplete",
    }  # fmt: skip
