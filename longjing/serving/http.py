"""What HTTP needs and no endpoint should think of: errors, headers, event streams, clients that leave."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.middleware.cors import CORSMiddleware
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


def is_api(path: str) -> bool:
    """Whether a path is the API's; else it is the page's, or for those who run the server."""
    return path == "/v1" or path.startswith("/v1/")


class ClientDisconnected(Exception):
    """The client has closed the connection."""


class RequestCounter:
    """Counts the requests to /v1: those that are open, in `app.state.open_requests`, and with `note(path, status)`
    those that were answered."""

    def __init__(self, app: ASGIApp, note: Callable[[str, int], None]) -> None:
        self._app, self._note = app, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_api(scope["path"]):
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


class Cors(CORSMiddleware):
    """Lets the pages of some origins call the API; nothing else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and is_api(scope["path"])
        await (super().__call__ if inside else self.app)(scope, receive, send)


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

        inside = scope["type"] == "http" and not is_api(scope["path"])
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
            raise ClientDisconnected
        return task.result()
    finally:
        for one in (task, left):
            one.cancel()
        await asyncio.gather(task, left, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
