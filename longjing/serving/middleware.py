"""What every request passes before an endpoint sees it: who is let in, what is counted, which headers are added."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longjing.errors import UserError
from longjing.serving.error_responses import ClientDisconnected, error_response
from longjing.serving.event_stream import result_unless
from longjing.serving.request_body import BodyReader, BodyRefused, replay

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_OPEN = "/health"  # which balancers ask
_WITHOUT_KEY = 4096  # bytes of a body from somebody who hasn't shown the key
_SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing


def is_api(path: str) -> bool:
    """Whether a path is the API's; else it is the page's, or for those who run the server."""
    return path == "/v1" or path.startswith("/v1/")


class BrowserLogin(Protocol):
    """How people show the key whose browser sends no `Authorization`."""

    def knows(self, scope: Scope) -> bool:
        """Whether they have shown it before."""

    def serves(self, scope: Scope) -> bool:
        """Whether this request is answered by the gate itself, key or none (`scope["has_key"]`)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""


def allowed_hosts(bound: str, named: Sequence[str]) -> tuple[str, ...] | None:
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
    return (*LOOPBACK, *([own] if address.is_loopback else []), *map(_without_port, named))


class AuthMiddleware:
    """Lets in who calls the server by one of `hosts` (None: any), has the key (None: there is none), and sends no more
    than `max_bytes` within `seconds`, nor too many values. While others' large bodies are on their way, another one
    may be sent away. What pages of other sites want to change outside the API is refused; to the API itself no form can
    be sent. HEAD is answered as GET, without the body."""

    def __init__(
        self, app: ASGIApp, key: str | None, hosts: Sequence[str] | None, max_bytes: int, seconds: float
    ) -> None:
        self._app, self._key, self._hosts = app, key, hosts
        self._max_bytes, self._bodies = max_bytes, BodyReader(max_bytes, seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # none is spoken here
            await receive()
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if problem := self._foreign(scope):
            return await error_response(403, problem)(scope, receive, send)
        gate: BrowserLogin | None = scope["app"].state.gate
        scope["has_key"] = has_key = self._has_key(scope, gate)
        served_by_gate = gate is not None and gate.serves(scope)
        if not (has_key or served_by_gate or scope["path"] == _OPEN):
            refusal = error_response(
                401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
            return await refusal(scope, receive, send)
        max_bytes = self._max_bytes if has_key else _WITHOUT_KEY
        try:
            body = await self._bodies.read(header(scope, b"content-length"), receive, max_bytes)
        except BodyRefused as refused:
            return await refused.response(scope, receive, send)
        except ClientDisconnected:
            return None
        app = gate if gate is not None and served_by_gate else self._app
        if scope["method"] == "HEAD":
            return await _head(app, {**scope, "method": "GET"}, replay(body, receive), send)
        return await app(scope, replay(body, receive), send)

    def _foreign(self, scope: Scope) -> str:
        """Why a browser that asks this was led here by somebody else's page; empty if it wasn't."""
        host = header(scope, b"host").decode("latin-1").lower()
        if self._hosts is not None and host and _without_port(host) not in self._hosts:
            name = _without_port(host)[:100]
            return f"this server isn't called {name}; if it is to be, start it with --allow-host {name}"
        if scope["method"] in _SAFE or is_api(scope["path"]):
            return ""
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin").decode("latin-1").lower()
        if site in (b"same-origin", b"none") or not (site or origin):  # no browser sends neither
            return ""
        whose = origin.partition("://")[2]
        if not site and whose and (whose == host or self._is_named(_without_port(whose))):
            return ""
        return "this is for the server's own page, not for those of other sites"

    def _is_named(self, name: str) -> bool:
        """Whether a proxy shows this server by a name that the user gave. Others on loopback are none of ours."""
        return name in (self._hosts or ()) and not (name in LOOPBACK or name.startswith("127."))

    def _has_key(self, scope: Scope, gate: BrowserLogin | None) -> bool:
        if self._key is None:
            return True
        scheme, _, key = header(scope, b"authorization").partition(b" ")
        if scheme.lower() == b"bearer" and secrets.compare_digest(key.strip(), self._key.encode()):
            return True
        return gate is not None and not is_api(scope["path"]) and gate.knows(scope)


def header(scope: Scope, name: bytes) -> bytes:
    """The header's value, or nothing; several of them in one, as HTTP lets them be joined."""
    return b", ".join(value for key, value in scope["headers"] if key.lower() == name)


def _without_port(host: str) -> str:
    """The host without its port, in lower case."""
    host = host.strip().lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """What a GET is answered, but for the body, which isn't waited for: it may be a stream that never ends."""
    head_sent = asyncio.Event()

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
            await send({"type": "http.response.body", "body": b""})
            head_sent.set()

    await result_unless(app(scope, receive, send_head), head_sent.wait())


def _at_start(act: Callable[[Message], None], send: Send) -> Send:
    """`send`, with `act` done to the message that begins the answer."""

    async def acting_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            act(message)
        await send(message)

    return acting_send


class RequestCounter:
    """Counts the requests to /v1: open ones in `app.state.open_requests`, answered ones with `note(path, status)`."""

    def __init__(self, app: ASGIApp, note: Callable[[str, int], None]) -> None:
        self._app, self._note = app, note

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_api(scope["path"]):
            return await self._app(scope, receive, send)

        def count(message: Message) -> None:
            self._note(getattr(scope.get("route"), "path", "other"), message["status"])

        state = scope["app"].state
        state.open_requests += 1
        try:
            await self._app(scope, receive, _at_start(count, send))
        finally:
            state.open_requests -= 1


class ApiCorsMiddleware(CORSMiddleware):
    """Lets the pages of some origins call the API; nothing else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inside = scope["type"] == "http" and is_api(scope["path"])
        await (super().__call__ if inside else self.app)(scope, receive, send)


class HeadersMiddleware:
    """Adds headers to every answer outside /v1."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        def add_headers(message: Message) -> None:
            message["headers"] = [*message["headers"], *self._headers]

        inside = scope["type"] == "http" and not is_api(scope["path"])
        await self._app(scope, receive, _at_start(add_headers, send) if inside else send)
