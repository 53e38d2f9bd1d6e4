"""A model behind somebody else's OpenAI-compatible address, asked as a person asks: one question, in pieces."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from longjing.errors import UserError
from longjing.serving.worker import ResponseDelta
from longjing.text import ReasoningStream

_SILENCE = 120.0  # seconds
_LONGEST = 4 << 20  # bytes of a reply, and of a line of it


async def ask(
    base_url: str, model: str, key: str, messages: Sequence[Mapping[str, str]], fields: Mapping[str, Any]
) -> AsyncIterator[ResponseDelta]:
    """The reply in pieces; their `tokens` are not known. Raises UserError if there is none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": list(messages), "stream": True, **fields}
    stream = ReasoningStream(prefilled=False)  # for servers that don't take the reasoning apart
    reason = None
    try:
        async with (
            httpx.AsyncClient(timeout=_SILENCE) as client,
            client.stream(
                "POST", f"{base_url.rstrip('/')}/chat/completions", json=body, headers=headers
            ) as reply,
        ):
            if reply.status_code != 200:
                text = b""
                async for part in reply.aiter_bytes():
                    if len(text := text + part[:1000]) >= 1000:
                        break
                raise UserError(
                    f"{base_url} answered {reply.status_code}: {text.decode(errors='replace')[:300]}"
                )
            async for line in _lines(reply):
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                delta, reason_now = _delta(json.loads(data))
                reason = reason_now or reason
                parts = stream.feed(_text(delta, "content"))
                thought = _text(delta, "reasoning_content") or _text(delta, "reasoning")
                if thought or parts.reasoning or parts.answer:
                    yield ResponseDelta(thought + parts.reasoning, parts.answer)
    except UserError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
        raise UserError(f"{base_url}: no answer: {error or type(error).__name__}") from error
    rest = stream.finish()
    yield ResponseDelta(rest.reasoning, rest.answer, finish_reason=reason or "stop")


async def _lines(reply: httpx.Response) -> AsyncIterator[str]:
    """As they come. Raises UserError if there is no end of it."""
    rest, size = b"", 0
    async for part in reply.aiter_bytes():
        size += len(part)
        if size > _LONGEST:
            raise UserError(
                f"{reply.url.host} says more than {_LONGEST >> 20} MiB; that is no answer to a question"
            )
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
    yield rest.decode(errors="replace")


def _delta(event: Any) -> tuple[dict[str, Any], str | None]:
    """What an event adds, and why it is the last; nothing of what has another form than OpenAI's."""
    if not isinstance(event, dict):
        return {}, None
    if "error" in event:
        raise UserError(f"the endpoint broke off: {str(event['error'])[:300]}")
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta, reason = choice.get("delta"), choice.get("finish_reason")
    return delta if isinstance(delta, dict) else {}, reason if isinstance(reason, str) else None


def _text(delta: dict[str, Any], name: str) -> str:
    value = delta.get(name)
    return value if isinstance(value, str) else ""
