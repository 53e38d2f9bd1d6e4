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
from longjing.serving.item_store import ItemStore
from longjing.serving.response_stream import ResponseDelta, ResponseStream
from longjing.serving.responses_request import ResponsesRequest
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
        whole, text, parser, calls = (
            ResponseDelta(),
            "",
            tool_call_parser(self._request, self._model),
            list[ToolCall](),
        )
        pending = list[Event]()  # tokens that have made no text yet
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self._response(stream, whole, [])}
        output = _Output()
        reasoning = _TextItem(self._reasoning_id, "reasoning_text")
        message = _TextItem(self._message_id, "output_text")
        async for _, delta in stream.deltas():
            whole += delta
            new, calls = parser.take(delta.answer, delta.finish_reason)
            text += new
            pending += self._logprobs(delta)
            had_begun, ended = reasoning.begun, delta.finish_reason is not None
            if delta.reasoning:
                if not had_begun:
                    for event in output.begin(reasoning, self._reasoning_item("", "in_progress")):
                        yield event
                yield {"type": "response.reasoning_text.delta", "delta": delta.reasoning, **reasoning.where}
            # What is said in the very delta in which the reasoning begins may have been said before it.
            if reasoning.begun and not reasoning.ended and ((new and had_begun) or ended):
                status = "completed" if text or calls else _status(whole)
                for event in output.end(reasoning, self._reasoning_item(whole.reasoning, status)):
                    yield event
            if not message.begun and (new or (ended and not calls)):
                for event in output.begin(message, self._message_item("", "in_progress")):
                    yield event
            if new:
                kind = "response.output_text.delta"
                yield {"type": kind, "delta": new, "logprobs": pending, **message.where}
                pending = []
        if message.begun:
            for event in output.end(message, self._message_item(text, _status(whole), whole)):
                yield event
        for call in calls:
            for event in output.call(call):
                yield event
        response = self._response(stream, whole, output.items, parser.notices)
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


class _TextItem:
    """An item with a text that grows. `index`: its place in the output, -1 before it has begun."""

    def __init__(self, id: str, kind: str) -> None:
        self._id, self.kind, self.index, self.ended = id, kind, -1, False

    @property
    def begun(self) -> bool:
        return self.index >= 0

    @property
    def where(self) -> Event:
        """The fields by which an event names the item."""
        return {"item_id": self._id, "output_index": self.index, "content_index": 0}


class _Output:
    """The items of a reply in the order of their beginnings (a text before the reasoning is possible), and the events
    that tell of them."""

    def __init__(self) -> None:
        self.items: list[Event] = []

    def begin(self, item: _TextItem, form: Event) -> Iterator[Event]:
        """A text begins. `form`: the item, still empty."""
        item.index = len(self.items)
        self.items.append(form)
        yield _item_event("added", item.index, form | {"content": []})
        yield {"type": "response.content_part.added", "part": form["content"][0], **item.where}

    def end(self, item: _TextItem, form: Event) -> Iterator[Event]:
        """A text has come to its end. `form`: the item with all of it."""
        item.ended = True
        (part,) = form["content"]
        logprobs: Event = {"logprobs": part["logprobs"]} if "logprobs" in part else {}
        yield {"type": f"response.{item.kind}.done", "text": part["text"], **logprobs, **item.where}
        yield {"type": "response.content_part.done", "part": part, **item.where}
        self.items[item.index] = form
        yield _item_event("done", item.index, form)

    def call(self, call: ToolCall) -> Iterator[Event]:
        """A call of a tool, from its beginning to its end."""
        form, index = _call_item(call), len(self.items)
        self.items.append(form)
        where = {"item_id": form["id"], "output_index": index}
        yield _item_event("added", index, form | {"arguments": "", "status": "in_progress"})
        kind = "response.function_call_arguments"
        if call.arguments:
            yield {"type": f"{kind}.delta", "delta": call.arguments, **where}
        yield {"type": f"{kind}.done", "name": call.name, "arguments": call.arguments, **where}
        yield _item_event("done", index, form)


def _item_event(what: str, index: int, item: Event) -> Event:
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
