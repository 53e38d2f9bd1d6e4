"""An OpenAI-compatible server in a thread that does what the test says."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass
class Response:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False  # close the connection instead


def completion(
    content: str | None,
    finish: str | None = "stop",
    *,
    prompt_tokens: int = 7,
    tokens: int = 10,
    reasoning_tokens: int | None = None,
    **message: str,
) -> Response:
    usage: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
    if reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return Response(body={"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage})


class FakeEndpoint:
    """`respond(request, attempt)` says what to answer; the first attempt at a request is 1."""

    def __init__(self, respond: Callable[[dict[str, Any], int], Response]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.busiest = 0
        busy, lock, attempts = 0, threading.Lock(), Counter[str]()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                nonlocal busy
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    busy += 1
                    fake.busiest = max(fake.busiest, busy)
                    fake.requests.append(request | {"path": self.path})
                    fake.keys.append(self.headers["Authorization"])
                    name = json.dumps(request, sort_keys=True)
                    attempts[name] += 1
                try:
                    response = respond(request, attempts[name])
                finally:
                    with lock:  # before the client has the reply, and asks the next question
                        busy -= 1
                self.reply(response)

            def reply(self, response: Response) -> None:
                if response.hang_up:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                body = response.body if isinstance(response.body, bytes) else json.dumps(response.body).encode()
                self.send_response(response.status)
                for name, value in {"Content-Length": str(len(body)), **response.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 64

            def handle_error(self, *arguments: Any) -> None:
                pass  # a client that gave up

        self._server = Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "FakeEndpoint":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
