"""Who is let in: every request, whatever its path, passes here before anything of it is parsed."""

import asyncio
import secrets
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longjing.errors import UserError
from longjing.serving.http import error, is_api

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_OPEN = "/health"  # which balancers ask
_LITTLE = 4096  # bytes of a body from somebody who hasn't shown the key
_SMALL = 1 << 16  # bytes of a body that is let in however many others are on their way
_BODIES = 8  # of the largest size, on their way at once
_BEGINNINGS = (b"[", b"{", b":")  # of lists, objects and their fields
_VALUES = (
    500_000  # in one body: parsing holds up everybody else, and many small values far longer than long ones
)
_SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing


class Gate(Protocol):
    """How people show the key whose browser sends no `Authorization`."""

    def knows(self, scope: Scope) -> bool:
        """Whether they have shown it before."""

    def serves(self, scope: Scope) -> bool:
        """Whether this request is answered by the gate itself, key or none (`scope["known"]`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""


def refuse_key(key: str, name: str) -> None:
    """Raises UserError for a key that would protect nothing, or that no header carries."""
    if not key.strip():
        raise UserError(f"{name} is empty: give a key, or leave it out to serve without one")
    if key != key.strip() or not key.isprintable():
        text = "a key can't begin or end with white space, nor hold line breaks or other control characters"
        raise UserError(f"{name}: {text}")


def hosts(bound: str, named: Sequence[str]) -> tuple[str, ...] | None:
    """The names that a server bound to the address `bound` answers to, those `named` among them; None for any.

    A name that isn't loopback's own for a server on loopback is one that a web page made up (DNS rebinding). Raises
    UserError."""
    for name in named:
        if not name.strip() or "/" in name:
            raise UserError(f"--allow-host {name!r}: give a name as an address has it, like box.example")
    address = ip_address(bound)
    if "*" in named or not (named or address.is_loopback):
        return None
    own = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return (*LOOPBACK, *([own] if address.is_loopback else []), *map(_name, named))


class Door:
    """Lets in who calls the server by one of `hosts` (None: any), has the key (None: there is none), and sends no more
    than `most` bytes within `seconds`, nor too many values. While others' large bodies are on their way, another one
    may be sent away. What pages of other sites want to change outside the API is refused; to the API itself no form can
    be sent. HEAD is answered as GET, without the body."""

    def __init__(
        self, app: ASGIApp, key: str | None, hosts: Sequence[str] | None, most: int, seconds: float
    ) -> None:
        self._app, self._key, self._hosts = app, key, hosts
        self._most, self._seconds = most, seconds
        self._arriving = 0  # bytes of bodies that aren't whole yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # none is spoken here
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if problem := self._strange(scope):
            return await error(403, problem)(scope, receive, send)
        gate: Gate | None = scope["app"].state.gate
        scope["known"] = known = self._has_key(scope, gate)
        served_by_gate = gate is not None and gate.serves(scope)
        if not (known or served_by_gate or scope["path"] == _OPEN):
            refusal = error(
                401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
            return await refusal(scope, receive, send)
        most = self._most if known else _LITTLE
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._body(header(scope, b"content-length"), receive, most)
        except _TooLarge:
            return await error(413, f"the request is larger than {most} bytes")(scope, receive, send)
        except _TooMany:
            refusal = error(
                429,
                "too many large requests are on their way",
                code="queue_full",
                headers={"Retry-After": "5"},
            )
            return await refusal(scope, receive, send)
        except TimeoutError:
            refusal = error(
                408, f"the request didn't come within {self._seconds:g} s", headers={"Connection": "close"}
            )
            return await refusal(scope, receive, send)
        except _Left:
            return None
        if sum(map(body.count, _BEGINNINGS)) > _VALUES:
            refusal = error(400, f"the body holds more than {_VALUES:,} lists, objects and fields")
            return await refusal(scope, receive, send)
        app = gate if gate is not None and served_by_gate else self._app
        if scope["method"] == "HEAD":
            return await _head(app, {**scope, "method": "GET"}, again(body, receive), send)
        return await app(scope, again(body, receive), send)

    async def _body(self, length: bytes, receive: Receive, most: int) -> bytes:
        """Read whole, for a length can be missing. Raises _TooLarge, _TooMany, and _Left if the client is gone."""
        if length and (not length.isdigit() or len(length) > 19 or int(length) > most):
            raise _TooLarge
        body = bytearray()
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Left
                piece = message.get("body", b"")
                body += piece
                self._arriving += len(piece)
                if len(body) > most:
                    raise _TooLarge
                if len(body) > _SMALL and self._arriving > _BODIES * self._most:
                    raise _TooMany
                if not message.get("more_body"):
                    return bytes(body)
        finally:
            self._arriving -= len(body)

    def _strange(self, scope: Scope) -> str:
        """Why a browser that asks this was led here by somebody else's page; empty if it wasn't."""
        host = header(scope, b"host").decode("latin-1").lower()
        if self._hosts is not None and host and _name(host) not in self._hosts:
            name = _name(host)[:100]
            return f"this server isn't called {name}; if it is to be, start it with --allow-host {name}"
        if scope["method"] in _SAFE or is_api(scope["path"]):
            return ""
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin").decode("latin-1").lower()
        if site in (b"same-origin", b"none") or not (site or origin):  # no browser sends neither
            return ""
        whose = origin.partition("://")[2]
        if not site and whose and (whose == host or self._is_named(_name(whose))):
            return ""
        return "this is for the server's own page, not for those of other sites"

    def _is_named(self, name: str) -> bool:
        """Whether the user has given the name, under which a proxy then shows this server. What else listens on
        loopback is none of ours."""
        return name in (self._hosts or ()) and not (name in LOOPBACK or name.startswith("127."))

    def _has_key(self, scope: Scope, gate: Gate | None) -> bool:
        if self._key is None:
            return True
        scheme, _, given = header(scope, b"authorization").partition(b" ")
        if scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), self._key.encode()):
            return True
        return gate is not None and not is_api(scope["path"]) and gate.knows(scope)


def header(scope: Scope, name: bytes) -> bytes:
    """The header's value, or nothing; several of them in one, as HTTP lets them be joined."""
    return b", ".join(value for given, value in scope["headers"] if given.lower() == name)


def _name(host: str) -> str:
    """Without its port."""
    host = host.strip().lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


class _TooLarge(Exception):
    pass


class _TooMany(Exception):
    pass


class _Left(Exception):
    pass


def again(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then what else comes."""
    unread = [body]

    async def once_more() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return once_more


async def _head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """What a GET is answered, but for the body, which isn't waited for: it may be a stream that never ends."""
    begun = asyncio.Event()

    async def only_the_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})
            begun.set()

    work, waiting = (
        asyncio.ensure_future(app(scope, receive, only_the_head)),
        asyncio.ensure_future(begun.wait()),
    )
    try:
        await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (work, waiting):
            task.cancel()
        await asyncio.gather(work, waiting, return_exceptions=True)
