"""One chat completion of an endpoint, in bounded time and size, whatever the endpoint does."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

_LARGEST = 8 << 20  # bytes of a reply
_PAUSE = 30.0  # seconds between two attempts, at most


class NoReplyError(Exception):
    """The endpoint gave no answer."""


@dataclass(frozen=True)
class Choice:
    """What a model said, and its `finish_reason`."""

    text: str
    ended: str


def ask(url: str, request: dict[str, Any], key: str, seconds: float, attempts: int) -> Choice:
    """The first choice, from as many attempts as there is time for. Raises NoReplyError within the seconds."""
    headers = {"Content-Type": "application/json", "User-Agent": "longjing"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    post = urllib.request.Request(url, json.dumps(request).encode(), headers)
    deadline, trouble = time.monotonic() + seconds, ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(min(2.0**attempt, _PAUSE, max(0.0, deadline - time.monotonic())))
        if deadline <= time.monotonic():
            break
        try:
            choice = json.loads(_sent(post, deadline))["choices"][0]
            return Choice(str(choice["message"]["content"] or ""), str(choice.get("finish_reason")).lower())
        except urllib.error.HTTPError as error:
            trouble = f"status {error.code}"
            if error.code not in (408, 409, 429) and error.code < 500:
                break  # asking again won't help
        except TimeoutError:
            trouble = f"no whole reply within {seconds:g} s"
        except (OSError, http.client.HTTPException) as error:  # a URLError is an OSError
            trouble = str(getattr(error, "reason", error)) or repr(error)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            trouble = f"no chat completion ({error})"
    raise NoReplyError(f"{url}: {trouble}")


def _sent(post: urllib.request.Request, deadline: float) -> bytes:
    """The body of the answer. Raises what `urlopen` raises, ValueError for a body that is too large, and TimeoutError
    at the deadline: a time-out of `urlopen` counts each read anew, so that one who trickles could hold it for ever."""
    body: Future[bytes] = Future()

    def work() -> None:
        try:
            body.set_result(_read(post, deadline))
        except BaseException as error:  # it belongs to the one who waits
            body.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return body.result(max(0.0, deadline - time.monotonic()))


def _read(post: urllib.request.Request, deadline: float) -> bytes:
    left = max(0.001, deadline - time.monotonic())
    with urllib.request.urlopen(post, timeout=left) as response:
        body = b""
        while chunk := response.read1(1 << 16):
            body += chunk
            if len(body) > _LARGEST:
                raise ValueError(f"a reply of over {_LARGEST} bytes")
            if time.monotonic() > deadline:
                raise TimeoutError
    return body
