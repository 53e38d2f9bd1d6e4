"""Asking a model behind an OpenAI-compatible API: a chat completion whole or as it grows, whatever the server does.

A request has a bound on the server's silence and on the size of the answer, and may have one on its seconds. No
redirect is followed: that would hand the key to whoever it leads to. Whatever goes wrong is an `EndpointError`, which
says whether asking again may help.
"""

import http.client
import json
import random
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import count
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from longjing.errors import UserError
from longjing.text import ReasoningStream
from longjing.validation import explain_data

if TYPE_CHECKING:
    import httpx

_MOST_BYTES = 16 << 20  # of a reply
_MOST_STREAMED = 4 << 20  # bytes of a streamed reply: somebody reads it
_LONGEST_WAIT = 3600.0  # seconds, of what a server may ask for
_EXCERPT = 300  # characters of a server's complaint
_NOT_FOR_LONG = {408, 409, 425, 429}  # statuses that pass, as those of 500 and above do
_FOR_EVER = {501, 505}

T = TypeVar("T")


class EndpointError(UserError):
    """Why there is no chat completion. `transient`: asking again may help, `wait` seconds from now at the earliest.

    `status` and `location`: what HTTP said, if it did. `attempts`: how often it was asked, once `with_retries` has.
    """

    def __init__(
        self, reason: str, *, transient: bool = True, wait: float = 0.0, status: int | None = None, location: str = ""
    ) -> None:
        super().__init__(reason)
        self.transient, self.wait, self.status, self.location = transient, wait, status, location
        self.attempts = 1


@dataclass(frozen=True)
class Endpoint:
    """Where a model is asked: the address, which usually ends in `/v1`, the model's name there, and the key or ""."""

    base_url: str
    model: str
    key: str = ""

    @property
    def url(self) -> str:
        return f"{self.base_url.rstrip('/')}/chat/completions"

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "longjing"}
        return headers | ({"Authorization": f"Bearer {self.key}"} if self.key else {})


class _Part(BaseModel):
    type: Literal["text", "thinking"]
    text: str = ""
    thinking: "str | list[_Part]" = ""  # Mistral

    @property
    def thought(self) -> str:
        return self.thinking if isinstance(self.thinking, str) else "".join(part.text for part in self.thinking)


class _Message(BaseModel):
    content: str | list[_Part] | None = None
    reasoning_content: str | None = None  # vLLM, SGLang, DeepSeek
    reasoning: str | None = None  # OpenRouter, later vLLM


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    reasoning_tokens: int | None = None


class Usage(BaseModel):
    """The tokens that a server says it read and wrote."""

    prompt_tokens: int
    completion_tokens: int
    completion_tokens_details: _Details | None = None

    @property
    def reasoning_tokens(self) -> int | None:
        details = self.completion_tokens_details
        return None if details is None else details.reasoning_tokens


class ChatCompletion(BaseModel):
    """What a server answers: the first of its choices, and the tokens that it took if the server says so."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Usage | None = None

    @property
    def finish_reason(self) -> str:
        return self.choices[0].finish_reason or "unknown"

    @property
    def answer(self) -> str:
        """The text without the reasoning, unless the server leaves that in its tags."""
        content = self.choices[0].message.content
        return "".join(part.text for part in content) if isinstance(content, list) else content or ""

    @property
    def reasoning(self) -> str:
        """The reasoning that the server has taken apart."""
        message = self.choices[0].message
        parts = message.content if isinstance(message.content, list) else []
        return message.reasoning_content or message.reasoning or "".join(part.thought for part in parts)


def read_completion(body: bytes) -> ChatCompletion:
    """The chat completion in the body of an answer. Raises EndpointError for anything else: some servers report their
    troubles with status 200."""
    try:
        return ChatCompletion.model_validate(json.loads(body))
    except ValidationError as error:
        raise EndpointError(f"no chat completion ({explain_data(error)}): {_excerpt(body)}") from error
    except (ValueError, RecursionError) as error:
        raise EndpointError(f"no JSON ({error}): {_excerpt(body)}") from error


def complete(endpoint: Endpoint, fields: Mapping[str, Any], silence: float, deadline: float = inf) -> ChatCompletion:
    """One chat completion for the fields of one request, asked once. Raises EndpointError.

    `silence`: seconds without a byte after which the request counts as lost. `deadline`: when there has to be an answer
    however it trickles, in `time.monotonic()`.
    """
    if deadline == inf:
        return read_completion(_post(endpoint, fields, silence, deadline))
    # The time-out of a socket counts every read anew, and the headers are read unseen: so a thread is left behind.
    body: Future[bytes] = Future()

    def work() -> None:
        try:
            body.set_result(_post(endpoint, fields, silence, deadline))
        except BaseException as error:  # it belongs to the one who waits
            body.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return read_completion(body.result(max(0.0, deadline - monotonic())))
    except TimeoutError:
        raise EndpointError("no whole reply in time") from None


def _post(endpoint: Endpoint, fields: Mapping[str, Any], silence: float, deadline: float) -> bytes:
    """The body of the answer, if that has status 200."""
    body = bytearray()
    try:
        request = urllib.request.Request(endpoint.url, json.dumps(fields).encode(), endpoint.headers)
        with _OPENER.open(request, timeout=max(0.001, min(silence, deadline - monotonic()))) as response:
            while chunk := response.read1(1 << 16):
                body += chunk
                if len(body) > _MOST_BYTES or monotonic() > deadline:
                    break
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise EndpointError(str(getattr(error, "reason", error)) or repr(error)) from error
    except ValueError as error:  # no address, or a key that no header holds
        raise EndpointError(str(error), transient=False) from error
    if monotonic() > deadline:
        raise EndpointError("no whole reply in time")
    if len(body) > _MOST_BYTES:
        raise EndpointError(f"a reply of over {_MOST_BYTES >> 20} MiB")
    if (status := response.status) != 200:
        headers, transient = response.headers, status in _NOT_FOR_LONG or (status >= 500 and status not in _FOR_EVER)
        wait, location = seconds_until(headers.get("Retry-After") or ""), headers.get("Location") or ""
        reason = f"status {status}: {_excerpt(body)}"
        raise EndpointError(reason, transient=transient, wait=wait, status=status, location=location)
    return bytes(body)


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Any status is a response, a redirect too."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return response

    https_response = http_response


_OPENER = urllib.request.build_opener(_AsItIs)


def seconds_until(retry_after: str) -> float:
    """What the header asks for, in seconds (decimals too) or as a date: at most an hour, 0 if it says nothing."""
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            date = parsedate_to_datetime(retry_after)
            seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else 0.0


def with_retries(
    ask: Callable[[], T],
    attempts: int,
    pause: float,
    longest: float,
    *,
    deadline: float = inf,
    stop: threading.Event | None = None,
) -> T:
    """What `ask` returns, asked again after a transient EndpointError up to `attempts` times in all.

    The pauses double from `pause` seconds to at most `longest`, give or take a quarter, but are as long as the server
    asks for. The last error is raised when no attempt is left, the next would come after the `deadline`, or somebody
    has set `stop`.
    """
    stop = stop or threading.Event()
    for attempt in count(1):
        try:
            return ask()
        except EndpointError as error:
            error.attempts = attempt
            wait = max(min(pause * 2 ** (attempt - 1) * random.uniform(0.75, 1.25), longest), error.wait)
            if not error.transient or attempt >= attempts or stop.is_set() or monotonic() + wait >= deadline:
                raise
        stop.wait(wait)
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class ReplyDelta:
    """A piece of a reply that grows; the last one has a `finish_reason`."""

    reasoning: str = ""
    answer: str = ""
    finish_reason: str | None = None


async def stream(endpoint: Endpoint, fields: Mapping[str, Any], silence: float = 120.0) -> AsyncIterator[ReplyDelta]:
    """One chat completion as it grows. Raises EndpointError. Needs httpx."""
    import httpx

    thinking = ReasoningStream(prefilled=False)  # for servers that don't take the reasoning apart
    finish_reason = None
    body = {**fields, "model": endpoint.model, "stream": True}
    try:
        async with (
            httpx.AsyncClient(timeout=silence) as client,
            client.stream("POST", endpoint.url, json=body, headers=endpoint.headers) as response,
        ):
            if response.status_code != 200:
                beginning = await _beginning(response)
                raise EndpointError(f"{endpoint.base_url} answered {response.status_code}: {beginning}")
            async for line in _lines(response):
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                delta, reason = _delta(json.loads(data))
                finish_reason = reason or finish_reason
                parts = thinking.feed(_text(delta, "content"))
                thought = _text(delta, "reasoning_content") or _text(delta, "reasoning")
                if thought or parts.reasoning or parts.answer:
                    yield ReplyDelta(thought + parts.reasoning, parts.answer)
    except EndpointError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
        raise EndpointError(f"{endpoint.base_url}: no answer: {error or type(error).__name__}") from error
    rest = thinking.finish()
    yield ReplyDelta(rest.reasoning, rest.answer, finish_reason or "stop")


async def _beginning(response: "httpx.Response") -> str:
    text = b""
    async for part in response.aiter_bytes():
        text += part[:1000]
        if len(text) >= 1000:
            break
    return _excerpt(text)


async def _lines(response: "httpx.Response") -> AsyncIterator[str]:
    """The lines as they come. Raises EndpointError if there is no end of it."""
    rest, size = b"", 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST_STREAMED:
            bound = f"{_MOST_STREAMED >> 20} MiB"
            raise EndpointError(f"{response.url.host} says more than {bound}; that is no answer to a question")
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
    yield rest.decode(errors="replace")


def _delta(event: Any) -> tuple[dict[str, Any], str | None]:
    """What an event adds, and why it is the last; nothing of what has another form than OpenAI's."""
    if not isinstance(event, dict):
        return {}, None
    if "error" in event:
        raise EndpointError(f"the endpoint broke off: {str(event['error'])[:_EXCERPT]}")
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    delta, reason = choice.get("delta"), choice.get("finish_reason")
    return delta if isinstance(delta, dict) else {}, reason if isinstance(reason, str) else None


def _text(delta: dict[str, Any], name: str) -> str:
    value = delta.get(name)
    return value if isinstance(value, str) else ""


def _excerpt(text: bytes | bytearray) -> str:
    return " ".join(text.decode("utf-8", "replace").split())[:_EXCERPT]
