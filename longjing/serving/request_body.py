"""Request bodies, read whole and within bounds before anything of them is parsed."""

import asyncio
from typing import Any

from starlette.types import Message, Receive

from longjing.serving.error_responses import ClientDisconnected, error_response

_SMALL = 1 << 16  # bytes of a body that is let in however many others are on their way
_LARGE_AT_ONCE = 8  # bodies of the largest size, on their way at once
_BEGINNINGS = (b"[", b"{", b":")  # of lists, objects and their fields
# In one body: parsing holds up everybody else, and many small values far longer than long ones.
MAX_VALUES = 500_000


class BodyRefused(Exception):
    """A body that is out of bounds, with the answer to it."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.response = error_response(status, message, **details)


class BodyReader:
    """Reads bodies of at most `max_bytes` within `seconds`; all that is on its way at once is bounded, too."""

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self._max_bytes, self._seconds = max_bytes, seconds
        self._arriving = 0  # bytes of bodies that aren't whole yet

    async def read(self, length: bytes, receive: Receive, max_bytes: int) -> bytes:
        """The body. `length`: the header, which can be missing. Raises BodyRefused and ClientDisconnected."""
        if length and (not length.isdigit() or len(length) > 19 or int(length) > max_bytes):
            raise _too_large(max_bytes)
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._receive(receive, max_bytes)
        except TimeoutError as error:
            text = f"the request didn't come within {self._seconds:g} s"
            raise BodyRefused(408, text, headers={"Connection": "close"}) from error
        if sum(map(body.count, _BEGINNINGS)) > MAX_VALUES:
            raise BodyRefused(400, f"the body holds more than {MAX_VALUES:,} lists, objects and fields")
        return body

    async def _receive(self, receive: Receive, max_bytes: int) -> bytes:
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                part = message.get("body", b"")
                body += part
                self._arriving += len(part)
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
                if len(body) > _SMALL and self._arriving > _LARGE_AT_ONCE * self._max_bytes:
                    text = "too many large requests are on their way"
                    raise BodyRefused(429, text, code="queue_full", headers={"Retry-After": "5"})
                if not message.get("more_body"):
                    return bytes(body)
        finally:
            self._arriving -= len(body)


def _too_large(max_bytes: int) -> BodyRefused:
    return BodyRefused(413, f"the request is larger than {max_bytes} bytes")


def replay(body: bytes, receive: Receive) -> Receive:
    """What the application receives after the body was read: the body in one piece, then what else comes."""
    unread = [body]

    async def receive_again() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return receive_again
