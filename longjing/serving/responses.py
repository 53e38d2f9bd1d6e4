"""POST /v1/responses: OpenAI's newer form, as far as text, reasoning and tools go.

Of a reply its items are kept for a while, unless `store` is false, so that they can be referred to.

The reasoning is an item of its own before the message, with its text in full; calls of tools follow.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from longjing.chat.tool_calls import ToolCall
from longjing.serving.chat_completions import token_logprobs, tool_call_parser, usage
from longjing.serving.response_stream import ResponseDelta, ResponseStream
from longjing.serving.responses_request import ItemStore, ResponsesRequest
from longjing.serving.served_model import ServedModel

Event = dict[str, Any]


class ResponsesReply:
    """Writes the reply to one request."""

    def __init__(self, request: ResponsesRequest, model: ServedModel, store: ItemStore) -> None:
        self._request, self._model, self._store, self._created = request, model, store, time.time()
        self._id, self._reasoning_id, self._message_id = map(_new_id, ("resp", "rs", "msg"))
        self._events = 0

    def complete(self, stream: ResponseStream, deltas: Sequence[ResponseDelta]) -> dict[str, Any]:
        """The whole reply, of the whole completions."""
        (delta,) = deltas
        parser = tool_call_parser(self._request, self._model)
        text, calls = parser.take(delta.answer, delta.finish_reason)
        status = _status(delta)
        output = []
        if delta.reasoning:
            output.append(self._reasoning_item(delta.reasoning, "completed" if text or calls else status))
        if text or not calls:
            output.append(self._message_item(text, status, delta))
        return self._response(stream, delta, [*output, *map(_call_item, calls)], parser.notices)

    async def events(self, stream: ResponseStream) -> AsyncIterator[Event]:
        """The reply in events as they come, each with its number."""
        async for event in self._stream(stream):
            yield self.numbered(event)

    def numbered(self, event: Event) -> Event:
        """The event with its place in the stream."""
        self._events += 1
        return event | {"sequence_number": self._events - 1}

    async def _stream(self, stream: ResponseStream) -> AsyncIterator[Event]:
        whole, text, calls = ResponseDelta(), "", list[ToolCall]()
        parser, output = tool_call_parser(self._request, self._model), _Output()
        pending = list[Event]()  # tokens that have made no text yet
        reasoning, message = self._reasoning_id, self._message_id
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self._response(stream, whole, [])}
        async for _, delta in stream.deltas():
            whole += delta
            new, calls = parser.take(delta.answer, delta.finish_reason)
            text += new
            pending += self._logprobs(delta)
            events = list[Event]()
            had_begun, ended = reasoning in output.items, delta.finish_reason is not None
            if delta.reasoning:
                if not had_begun:
                    events += output.begin(self._reasoning_item("", "in_progress"))
                kind = "response.reasoning_text.delta"
                events.append({"type": kind, "delta": delta.reasoning, **output.where(reasoning)})
            # What is said in the very delta in which the reasoning begins may have been said before it.
            if output.is_open(reasoning) and ((new and had_begun) or ended):
                status = "completed" if text or calls else _status(whole)
                events += output.end(self._reasoning_item(whole.reasoning, status))
            if message not in output.items and (new or (ended and not calls)):
                events += output.begin(self._message_item("", "in_progress"))
            if new:
                kind = "response.output_text.delta"
                events.append({"type": kind, "delta": new, "logprobs": pending, **output.where(message)})
                pending = []
            for event in events:
                yield event
        if message in output.items:
            for event in output.end(self._message_item(text, _status(whole), whole)):
                yield event
        for call in calls:
            for event in output.call(call):
                yield event
        response = self._response(stream, whole, list(output.items.values()), parser.notices)
        yield {"type": f"response.{response['status']}", "response": response}

    def _response(
        self, stream: ResponseStream, delta: ResponseDelta, output: list[Event], notices: Sequence[str] = ()
    ) -> Event:
        """The response as far as it has come, with what it consists of."""
        if delta.finish_reason and self._request.store is not False:
            self._store.keep(output)
        ended, status = delta.finish_reason is not None, _status(delta)
        request, sampling, used = self._request, stream.jobs[0].request.sampling, usage(stream)
        choice = request.tool_choice or "auto"
        return {
            "id": self._id, "object": "response", "created_at": self._created, "model": self._model.name,
            "status": status, "output": output, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions, "metadata": request.metadata or {},
            "tools": [tool.model_dump() | {"strict": bool(tool.strict)} for tool in request.tools or ()],
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "truncation": "disabled",
            "max_output_tokens": request.max_output_tokens, "previous_response_id": None,
            "store": request.store is not False, "top_logprobs": request.top_logprobs or 0,
            "reasoning": request.reasoning.model_dump() if request.reasoning else None,
            "text": {"format": request.text.format.model_dump(by_alias=True)} if request.text and request.text.format
            else {"format": {"type": "text"}},
            "usage": None if not ended else {
                "input_tokens": used["prompt_tokens"], "output_tokens": used["completion_tokens"],
                "input_tokens_details": used["prompt_tokens_details"] | {"cache_write_tokens": 0},
                "output_tokens_details": used["completion_tokens_details"], "total_tokens": used["total_tokens"],
            },
            "notices": (*delta.notices, *notices) if ended else (),
        }  # fmt: skip

    def _reasoning_item(self, text: str, status: str) -> Event:
        content = [{"type": "reasoning_text", "text": text}]
        return {
            "id": self._reasoning_id, "type": "reasoning", "summary": [], "content": content, "status": status
        }  # fmt: skip

    def _logprobs(self, delta: ResponseDelta) -> list[Event]:
        return token_logprobs(delta, self._model) if self._request.wants_logprobs else []

    def _message_item(self, text: str, status: str, delta: ResponseDelta | None = None) -> Event:
        logprobs = self._logprobs(delta) if delta else []
        return {
            "id": self._message_id, "type": "message", "role": "assistant", "status": status,
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}],
        }  # fmt: skip


class _Output:
    """The items of a reply by id, in the order of their beginnings, and the events that tell of them."""

    def __init__(self) -> None:
        self.items: dict[str, Event] = {}

    def where(self, id: str) -> Event:
        """The fields by which an event names the text of an item."""
        return {"item_id": id, "output_index": list(self.items).index(id), "content_index": 0}

    def is_open(self, id: str) -> bool:
        """Whether the item has begun and not ended."""
        return id in self.items and self.items[id]["status"] == "in_progress"

    def begin(self, item: Event) -> Iterator[Event]:
        """A text begins. `item`: still empty."""
        self.items[item["id"]] = item
        yield self._item_event("added", item | {"content": []})
        yield {"type": "response.content_part.added", "part": item["content"][0], **self.where(item["id"])}

    def end(self, item: Event) -> Iterator[Event]:
        """A text has come to its end. `item`: with all of it."""
        (part,), where = item["content"], self.where(item["id"])
        fields = {name: part[name] for name in ("text", "logprobs") if name in part}
        yield {"type": f"response.{part['type']}.done", **fields, **where}
        yield {"type": "response.content_part.done", "part": part, **where}
        self.items[item["id"]] = item
        yield self._item_event("done", item)

    def call(self, call: ToolCall) -> Iterator[Event]:
        """A call of a tool, from its beginning to its end."""
        item = _call_item(call)
        where = {"item_id": item["id"], "output_index": len(self.items)}
        self.items[item["id"]] = item
        yield self._item_event("added", item | {"arguments": "", "status": "in_progress"})
        kind = "response.function_call_arguments"
        if call.arguments:
            yield {"type": f"{kind}.delta", "delta": call.arguments, **where}
        yield {"type": f"{kind}.done", "name": call.name, "arguments": call.arguments, **where}
        yield self._item_event("done", item)

    def _item_event(self, what: str, item: Event) -> Event:
        index = list(self.items).index(item["id"])
        return {"type": f"response.output_item.{what}", "output_index": index, "item": item}


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"


def _status(delta: ResponseDelta) -> str:
    if delta.finish_reason is None:
        return "in_progress"
    return "incomplete" if delta.finish_reason == "length" else "completed"


def _call_item(call: ToolCall) -> Event:
    return {
        "id": _new_id("fc"), "type": "function_call", "call_id": call.id, "name": call.name,
        "arguments": call.arguments, "status": "completed" if call.whole else "incomplete",
    }  # fmt: skip
