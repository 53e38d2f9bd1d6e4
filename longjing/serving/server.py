"""One process that listens: the API, the page, and leaving in good order."""

import asyncio
import logging
import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from longjing.errors import UserError
from longjing.serving.service import Service

_PARTING = 2  # seconds in which those are told who are broken off


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound already, so that a port that is taken is known before a model is loaded. Port 0 takes
    any that is free. Raises UserError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # asyncio switches Nagle's algorithm off only where the protocol is named; it would cost each answer 40 ms.
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except (OSError, OverflowError) as error:
        raise UserError(f"{host}:{port} can't be listened on: {error}; choose another --port or --host") from error
    return bound


def address(bound: socket.socket) -> str:
    """What to open in a browser."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


def run(app: FastAPI, service: Service, bound: socket.socket, grace: float, ready: Callable[["Server"], None]) -> None:
    """Serve until SIGTERM or SIGINT; then take nothing new, send away who waits, finish what runs within `grace`
    seconds, and return.

    A second SIGINT doesn't wait. `ready` is called when requests are taken; who is in another thread can set the
    server's `should_exit`.
    """
    server, log = Server(app, service, grace, ready), logging.getLogger("uvicorn.error")

    def worth_saying(record: logging.LogRecord) -> bool:
        return not server.force_exit  # connections of open pages are broken off: that is no error

    log.addFilter(worth_saying)
    try:
        server.run(sockets=[bound])
    finally:
        log.removeFilter(worth_saying)
        service.close()


class Server(uvicorn.Server):
    """Uvicorn's, which leaves as `run` says."""

    def __init__(self, app: FastAPI, service: Service, grace: float, ready: Callable[["Server"], None]) -> None:
        config = uvicorn.Config(
            app, log_level="error", access_log=False, timeout_keep_alive=75, server_header=False,
            timeout_graceful_shutdown=math.ceil(grace) + _PARTING,
        )  # fmt: skip
        super().__init__(config)
        self._app, self._service, self._grace, self._ready = app, service, grace, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready(self)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Catch what ends a server, as uvicorn does, but the signal isn't raised again afterwards: this was no
        accident."""
        if threading.current_thread() is not threading.main_thread():  # which gets no signals
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Tell who waits to come back, at last also who is being answered. Open pages, which never end, don't count."""

        async def until_answered() -> None:
            self._service.stop_accepting()
            self._service.dismiss_waiting()
            deadline = time.monotonic() + self._grace
            while self._app.state.open_requests and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            self._service.abort()
            while self._app.state.open_requests:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)  # until what was written is on its way
            self.force_exit = True

        waiting = asyncio.create_task(until_answered())
        await super().shutdown(sockets)
        waiting.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.stop_accepting()
        super().handle_exit(sig, frame)
