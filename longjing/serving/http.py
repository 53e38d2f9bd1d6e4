"""What HTTP needs and no endpoint should think of: keys, sizes, event streams, clients that leave."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_QUIET = 15.0  # seconds after which a silent stream sends a comment, so that nobody on the way closes it

T = TypeVar("T")


def error(
    status: int, message: str, *, parameter: str | None = None, code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """A refusal in OpenAI's form."""
    return JSONResponse(error_body(status, message, parameter, code), status, headers)


def error_body(
    status: int, message: str, parameter: str | None = None, code: str | None = None
) -> dict[str, Any]:
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


class Gone(Exception):
    """The client has closed the connection."""


class Counting:
    """Counts the requests to /v1: those that are open, in `app.state.open_requests`, and with `note(path, status)`
    those that were answered."""

    def __init__(self, app: ASGIApp, note: Callable[[str, int], None]) -> None:
        self._app, self._note = app, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            return await self._app(scope, receive, send)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(getattr(scope.get("route"), "path", "other"), message["status"])
            await send(message)

        state = scope["app"].state
        state.open_requests += 1
        try:
            await self._app(scope, receive, noting)
        finally:
            state.open_requests -= 1


class Doorkeeper:
    """Lets requests to /v1 in if they have the key, are no larger than `most` bytes, and come within `seconds`."""

    def __init__(self, app: ASGIApp, key: str | None, most: int, seconds: float) -> None:
        self._app, self._key, self._most, self._seconds = app, key, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1"):
            return await self._app(scope, receive, send)
        headers = {name.lower(): value for name, value in scope["headers"]}
        if self._key is not None and scope["method"] != "OPTIONS":
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not secrets.compare_digest(given.strip(), self._key.encode()):
                refusal = error(
                    401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )  # fmt: skip
                return await refusal(scope, receive, send)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._most:
            return await self._too_large(scope, receive, send)
        body = bytearray()  # read whole here, for a length can be missing
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self._most or not message.get("more_body"):
                        break
        except TimeoutError:
            refusal = error(
                408, f"the request didn't come within {self._seconds:g} s", headers={"Connection": "close"}
            )
            return await refusal(scope, receive, send)
        if len(body) > self._most:
            return await self._too_large(scope, receive, send)
        return await self._app(scope, _again(bytes(body), receive), send)

    async def _too_large(self, scope: Scope, receive: Receive, send: Send) -> None:
        await error(413, f"the request is larger than {self._most} bytes")(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then what else comes."""
    unread = [body]

    async def once_more() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return once_more


class Headers:
    """Adds headers to every answer outside /v1."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        inside = scope["type"] == "http" and not scope["path"].startswith("/v1")
        await self._app(scope, receive, adding if inside else send)


class EventStream(Response):
    """Server-sent events: a line of JSON each; if `named`, after a line with its `type`. `events` is closed as soon as
    the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[dict[str, Any] | str], named: bool = False) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._named, self._sent = events, named, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stream, *others = map(asyncio.ensure_future, (self._send(send), _left(receive), self._murmur(send)))
        try:
            await asyncio.wait({stream, *others}, return_when=asyncio.FIRST_COMPLETED)
            if stream.done():
                stream.result()
        finally:
            for task in (stream, *others):
                task.cancel()
            await asyncio.gather(stream, *others, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        try:
            async for event in self._events:
                self._sent = time.monotonic()
                await send({"type": "http.response.body", "body": self._lines(event), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]

    async def _murmur(self, send: Send) -> None:
        """Comments as long as nothing else is sent."""
        while True:
            await asyncio.sleep(_QUIET)
            if time.monotonic() - self._sent >= _QUIET:
                await send({"type": "http.response.body", "body": b": still at work\n\n", "more_body": True})

    def _lines(self, event: dict[str, Any] | str) -> bytes:
        data = event.encode() if isinstance(event, str) else to_json(event)
        name = f"event: {event['type']}\n".encode() if self._named and isinstance(event, dict) else b""
        return b"%bdata: %b\n\n" % (name, data)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client leaves; raises Gone then."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request.receive))
    try:
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for one in (task, left):
            one.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
