"""Server-sent events, and clients that leave before the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from longjing.serving.error_responses import ClientDisconnected

_KEEP_ALIVE = 15.0  # seconds after which a silent stream sends a comment, so that nobody on the way closes it

T = TypeVar("T")


class EventStream(Response):
    """A line of JSON each, if `named` after one with its `type`. `events` is closed as soon as the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[dict[str, Any] | str], named: bool = False) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._named, self._sent = events, named, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await result_unless(self._send(send), _disconnected(receive), self._keep_alive(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for event in self._events:
                self._sent = time.monotonic()
                await send({"type": "http.response.body", "body": self._lines(event), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._events.aclose()  # type: ignore[attr-defined]

    async def _keep_alive(self, send: Send) -> None:
        """Comments as long as nothing else is sent."""
        while True:
            await asyncio.sleep(_KEEP_ALIVE)
            if time.monotonic() - self._sent >= _KEEP_ALIVE:
                await send({"type": "http.response.body", "body": b": still at work\n\n", "more_body": True})

    def _lines(self, event: dict[str, Any] | str) -> bytes:
        data = event.encode() if isinstance(event, str) else to_json(event)
        name = f"event: {event['type']}\n".encode() if self._named and isinstance(event, dict) else b""
        return b"%bdata: %b\n\n" % (name, data)


async def unless_disconnected(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled if the client leaves; raises ClientDisconnected then."""
    result = await result_unless(work, _disconnected(request.receive))
    if result is None:
        raise ClientDisconnected
    return result


async def result_unless(work: Awaitable[T], *others: Awaitable[object]) -> T | None:
    """The result of `work`, or None once one of the `others` has ended before it. What hasn't ended is cancelled."""
    task, rest = asyncio.ensure_future(work), [asyncio.ensure_future(other) for other in others]
    try:
        await asyncio.wait([task, *rest], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, *rest):
            one.cancel()
        await asyncio.gather(task, *rest, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
