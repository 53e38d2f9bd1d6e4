"""POST /v1/chat/completions: a chat's completions, whole or in pieces, in OpenAI's form.

The reasoning comes apart from the answer, under DeepSeek's name (`reasoning_content`) and vLLM's (`reasoning`).
`notices` say in sentences what else a reader should know, such as why an answer is empty.
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from longjing.chat.tool_calls import ToolCall, ToolCallParser, knows_tools
from longjing.serving.response_stream import ResponseDelta, ResponseStream
from longjing.serving.responses_request import ResponsesRequest
from longjing.serving.schemas import ChatRequest, CompletionFields
from longjing.serving.served_model import ServedModel


def usage(stream: ResponseStream, n: int | None = None) -> dict[str, Any]:
    """Tokens read and sampled so far. A prompt is counted once, though it has `n` completions."""
    prompts = stream.jobs[:: n or 1]
    read, reused = sum(len(job.request.prompt) for job in prompts), sum(job.reused for job in prompts)
    sampled = sum(job.count for job in stream.jobs)
    reasoning = sum(job.controller.reasoning_tokens for job in stream.jobs if job.controller)
    return {
        "prompt_tokens": read, "completion_tokens": sampled, "total_tokens": read + sampled,
        "prompt_tokens_details": {"cached_tokens": reused},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }  # fmt: skip


def tool_call_parser(request: ChatRequest | ResponsesRequest, model: ServedModel) -> ToolCallParser:
    """A parser for one answer to the request, which may have no tools. Its notices say, too, if the model isn't told of
    them."""
    enabled, notice = bool(request.tools) and request.tool_choice != "none", ""
    if enabled and not knows_tools(model.tokenizer.template):
        notice = "The model was not told of the tools: its chat template knows none."
        notice += "" if request.tool_choice in (None, "auto") else " Its answer was bound to a call of one."
    return ToolCallParser(enabled, request.parallel_tool_calls is not False, [notice] if notice else [])


def finite(logprob: float) -> float:
    """A log-probability as OpenAI writes it: JSON knows no infinity."""
    return max(logprob, -9999.0)


class CompletionWriter:
    """What replies in both of OpenAI's forms of completions share. `_prefix`: how their ids begin."""

    _request: CompletionFields
    _prefix: str
    _whole: str
    _piece: str

    def __init__(self, request: CompletionFields, model: ServedModel) -> None:
        self._request, self._model = request, model
        self._id, self._created = f"{self._prefix}-{secrets.token_hex(12)}", int(time.time())

    def _reply(self, object: str, choices: Sequence[dict[str, Any]], **usage: Any) -> dict[str, Any]:
        head = {"id": self._id, "object": object, "created": self._created, "model": self._model.name}
        return head | {"choices": choices} | usage

    def _complete(self, stream: ResponseStream, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return self._reply(self._whole, choices, usage=usage(stream, self._request.n))

    def _chunk(self, choice: dict[str, Any], stream: ResponseStream | None = None) -> dict[str, Any]:
        """`stream`: of which a piece may say what was used so far."""
        if not self._request.wants_usage:
            return self._reply(self._piece, [choice])
        used = usage(stream, self._request.n) if stream and self._request.wants_usage_throughout else None
        return self._reply(self._piece, [choice], usage=used)

    def _ending(self, stream: ResponseStream) -> Iterator[dict[str, Any] | str]:
        """The last pieces."""
        if self._request.wants_usage:
            yield self._reply(self._piece, [], usage=usage(stream, self._request.n))
        yield "[DONE]"


class ChatReply(CompletionWriter):
    """Writes the replies to one request."""

    _request: ChatRequest
    _prefix, _whole, _piece = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def complete(self, stream: ResponseStream, deltas: Sequence[ResponseDelta]) -> dict[str, Any]:
        """The whole reply, of the whole completions."""
        return self._complete(stream, [self._choice(number, delta) for number, delta in enumerate(deltas)])

    async def events(self, stream: ResponseStream) -> AsyncIterator[dict[str, Any] | str]:
        """The reply in chunks as they come: first the roles, at last what is asked for of usage."""
        for number in range(len(stream.jobs)):
            yield self._chunk(_piece_of(number, {"role": "assistant", "content": ""}))
        parsers = [tool_call_parser(self._request, self._model) for _ in stream.jobs]
        async for number, delta in stream.deltas():
            fields: dict[str, Any] = {}
            if self._shows_reasoning and delta.reasoning:
                fields |= _reasoning(delta.reasoning)
            text, calls = parsers[number].take(delta.answer, delta.finish_reason)
            if calls:
                fields["tool_calls"] = _tool_calls(calls, indexed=True)
            if text:
                fields["content"] = text
            logprobs = self._logprobs(delta)
            if fields or (logprobs and any(logprobs.values())):
                yield self._chunk(_piece_of(number, fields, logprobs), stream)
            if delta.finish_reason:
                last = _piece_of(number, {}, reason=_finish_reason(delta, calls))
                notices = (*delta.notices, *parsers[number].notices)
                yield self._chunk(last | ({"notices": notices} if notices else {}), stream)
        for piece in self._ending(stream):
            yield piece

    @property
    def _shows_reasoning(self) -> bool:
        return self._request.include_reasoning is not False

    def _choice(self, number: int, delta: ResponseDelta) -> dict[str, Any]:
        parser = tool_call_parser(self._request, self._model)
        text, calls = parser.take(delta.answer, delta.finish_reason)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        message["refusal"] = None
        if self._shows_reasoning:
            message |= _reasoning(delta.reasoning or None)
        if calls:
            message["tool_calls"] = _tool_calls(calls)
        return {
            "index": number, "message": message, "logprobs": self._logprobs(delta),
            "finish_reason": _finish_reason(delta, calls),
            "notices": (*delta.notices, *parser.notices),
        }  # fmt: skip

    def _logprobs(self, delta: ResponseDelta) -> dict[str, Any] | None:
        """Of the answer's tokens, and apart from them those of the reasoning, as DeepSeek's API has it."""
        if not self._request.logprobs:
            return None
        answer = {"content": token_logprobs(delta, self._model), "refusal": None}
        if not self._shows_reasoning:  # its tokens would tell what is not to be shown
            return answer
        return answer | {"reasoning_content": token_logprobs(delta, self._model, reasoned=True)}


def token_logprobs(delta: ResponseDelta, model: ServedModel, reasoned: bool = False) -> list[dict[str, Any]]:
    """The answer's tokens, or those `reasoned`, without the end, each with the likeliest in its place."""

    def entry(id: int, logprob: float) -> dict[str, Any]:
        text, written = model.tokenizer.decode([id]), model.tokenizer.token_bytes(id)
        return {"token": text, "logprob": finite(logprob), "bytes": list(written)}

    return [
        entry(token.id, token.logprob) | {"top_logprobs": [entry(id, value) for id, value in token.top]}
        for token in delta.tokens
        if token.reasoned == reasoned and token.id not in model.engine.end_tokens
    ]


def _piece_of(number: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None) -> dict[str, Any]:
    return {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _reasoning(text: str | None) -> dict[str, Any]:
    return {"reasoning_content": text, "reasoning": text}


def _finish_reason(delta: ResponseDelta, calls: Sequence[ToolCall]) -> str | None:
    """As OpenAI has it. Where something was cut off, that is what a client has to know."""
    return "tool_calls" if calls and delta.finish_reason == "stop" else delta.finish_reason


def _tool_calls(calls: Sequence[ToolCall], indexed: bool = False) -> list[dict[str, Any]]:
    """As a message has them; `indexed`: as a delta."""
    return [
        ({"index": number} if indexed else {})
        | {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for number, call in enumerate(calls)
    ]
