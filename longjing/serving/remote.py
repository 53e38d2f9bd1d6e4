"""A model behind somebody else's OpenAI-compatible address, asked as a person asks: one question, in pieces."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx

from longjing.errors import UserError
from longjing.serving.worker import Piece
from longjing.text import ReasoningStream

_SILENCE = 120.0  # seconds


async def ask(
    base_url: str, model: str, key: str, messages: Sequence[Mapping[str, str]], fields: Mapping[str, Any]
) -> AsyncIterator[Piece]:
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
                text = (await reply.aread()).decode(errors="replace")
                raise UserError(f"{base_url} answered {reply.status_code}: {text[:300]}")
            async for line in reply.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                delta, reason_now = _delta(json.loads(data))
                reason = reason_now or reason
                parts = stream.feed(delta.get("content") or "")
                thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
                if thought or parts.reasoning or parts.answer:
                    yield Piece(thought + parts.reasoning, parts.answer)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UserError(f"{base_url}: no answer: {error or type(error).__name__}") from error
    rest = stream.finish()
    yield Piece(rest.reasoning, rest.answer, finish_reason=reason or "stop")


def _delta(event: Any) -> tuple[dict[str, Any], str | None]:
    if "error" in event:
        raise UserError(f"the endpoint broke off: {event['error']}")
    choice = (event.get("choices") or [{}])[0]
    return choice.get("delta") or {}, choice.get("finish_reason")
