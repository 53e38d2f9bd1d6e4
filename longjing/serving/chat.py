"""POST /v1/chat/completions: a chat's completions, whole or in pieces, in OpenAI's form.

The reasoning comes apart from the answer, under DeepSeek's name (`reasoning_content`) and vLLM's (`reasoning`).
`notices` say in sentences what else a reader should know, such as why an answer is empty.
"""

import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from longjing.serving.schemas import ChatRequest
from longjing.serving.service import Served
from longjing.serving.tools import Call, CallStream, left_out
from longjing.serving.worker import ResponseDelta, ResponseStream, Token
from longjing.text import Tokenizer


def usage(mailbox: ResponseStream, n: int | None = None) -> dict[str, Any]:
    """Tokens read and sampled so far. A prompt is counted once, though it has `n` completions."""
    prompts = mailbox.jobs[:: n or 1]
    read, reused = sum(len(job.request.prompt) for job in prompts), sum(job.reused for job in prompts)
    sampled = sum(job.count for job in mailbox.jobs)
    reasoning = sum(job.turn.reasoning_tokens for job in mailbox.jobs if job.turn)
    return {
        "prompt_tokens": read, "completion_tokens": sampled, "total_tokens": read + sampled,
        "prompt_tokens_details": {"cached_tokens": reused},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }  # fmt: skip


def finite(logprob: float) -> float:
    """As OpenAI writes it: JSON knows no infinity."""
    return max(logprob, -9999.0)


class ChatReply:
    """Writes the replies to one request."""

    def __init__(self, asked: ChatRequest, served: Served) -> None:
        self._asked, self._served = asked, served
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def whole(self, mailbox: ResponseStream, pieces: Sequence[ResponseDelta]) -> dict[str, Any]:
        """All of it, when it is there."""
        choices = [self._choice(number, piece) for number, piece in enumerate(pieces)]
        return self._head("chat.completion") | {"choices": choices, "usage": usage(mailbox, self._asked.n)}

    async def events(self, mailbox: ResponseStream) -> AsyncIterator[dict[str, Any] | str]:
        """It in pieces: first the roles, at last what is asked for of usage."""
        for number in range(len(mailbox.jobs)):
            yield self._chunk(number, {"role": "assistant", "content": ""}, None)
        answers = [self._calls() for _ in mailbox.jobs]
        async for number, piece in mailbox.pieces():
            delta: dict[str, Any] = _reasoning(piece.reasoning) if self._reasons and piece.reasoning else {}
            said, calls = answers[number].take(piece)
            if calls:
                delta["tool_calls"] = tool_calls(calls, indexed=True)
            if said:
                delta["content"] = said
            logprobs = self._logprobs(piece)
            used = usage(mailbox, self._asked.n) if self._asked.wants_usage_throughout else None
            if delta or (logprobs and any(logprobs.values())):
                yield self._chunk(number, delta, None, logprobs, used=used)
            if piece.finish_reason:
                notices = (*piece.notices, *answers[number].notices, *self._left_out)
                yield self._chunk(number, {}, finish_reason(piece, calls), notices=notices, used=used)
        if self._asked.wants_usage:
            yield self._head("chat.completion.chunk") | {
                "choices": [],
                "usage": usage(mailbox, self._asked.n),
            }
        yield "[DONE]"

    @property
    def _reasons(self) -> bool:
        return self._asked.include_reasoning is not False

    @property
    def _left_out(self) -> list[str]:
        asked, tokenizer = self._asked, self._served.tokenizer
        return left_out(asked.offered, asked.tool_choice, tokenizer.template)

    def _calls(self) -> CallStream:
        return CallStream(bool(self._asked.offered), self._asked.parallel_tool_calls is not False)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self._id, "object": kind, "created": self._created, "model": self._served.name
        }  # fmt: skip

    def _choice(self, number: int, piece: ResponseDelta) -> dict[str, Any]:
        answer = self._calls()
        said, calls = answer.take(piece)
        message: dict[str, Any] = {"role": "assistant", "content": said or (None if calls else "")}
        message["refusal"] = None
        if self._reasons:
            message |= _reasoning(piece.reasoning or None)
        if calls:
            message["tool_calls"] = tool_calls(calls)
        return {
            "index": number, "message": message, "logprobs": self._logprobs(piece),
            "finish_reason": finish_reason(piece, calls),
            "notices": (*piece.notices, *answer.notices, *self._left_out),
        }  # fmt: skip

    def _chunk(
        self, number: int, delta: dict[str, Any], reason: str | None, logprobs: Any = None,
        notices: Sequence[str] = (), used: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        choice: dict[str, Any] = {
            "index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason
        }  # fmt: skip
        if notices:
            choice["notices"] = notices
        usage_so_far = {"usage": used} if self._asked.wants_usage else {}
        return self._head("chat.completion.chunk") | {"choices": [choice]} | usage_so_far

    def _logprobs(self, piece: ResponseDelta) -> dict[str, Any] | None:
        """Of the answer's tokens, and apart from them those of the reasoning, as DeepSeek's API has it."""
        if not self._asked.logprobs:
            return None
        ends, tokenizer = self._served.engine.end_tokens, self._served.tokenizer
        shown = [token for token in piece.tokens if token.id not in ends]
        answer = {
            "content": [described(token, tokenizer) for token in shown if not token.reasoned],
            "refusal": None,
        }
        if not self._reasons:  # its tokens would tell what is not to be shown
            return answer
        return answer | {
            "reasoning_content": [described(token, tokenizer) for token in shown if token.reasoned]
        }


def described(token: Token, tokenizer: Tokenizer) -> dict[str, Any]:
    """A token with its log-probability and those of the likeliest in its place, as OpenAI writes them."""

    def entry(id: int, logprob: float) -> dict[str, Any]:
        return {
            "token": tokenizer.decode([id]), "logprob": finite(logprob), "bytes": list(tokenizer.token_bytes(id)),
        }  # fmt: skip

    return entry(token.id, token.logprob) | {"top_logprobs": [entry(id, value) for id, value in token.top]}


def _reasoning(text: str | None) -> dict[str, Any]:
    return {"reasoning_content": text, "reasoning": text}


def finish_reason(piece: ResponseDelta, calls: Sequence[Call]) -> str | None:
    """As OpenAI has it. Where something was cut off, that is what a client has to know."""
    return "tool_calls" if calls and piece.finish_reason == "stop" else piece.finish_reason


def tool_calls(calls: Sequence[Call], indexed: bool = False) -> list[dict[str, Any]]:
    """As a message has them; `indexed`: as a delta."""
    return [
        ({"index": number} if indexed else {})
        | {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for number, call in enumerate(calls)
    ]
