"""`longjing serve`, its page open in browsers: it starts though nothing can be printed, and ends without a word."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx
import pytest

from longjing.serving.server import address, listen


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_with_a_full_disk_it_starts_and_with_open_pages_it_ends_quietly():
    with listen("127.0.0.1", 0) as free:
        url = address(free)
    command = [sys.executable, "-m", "longjing", "serve", "base", "--port", url.rpartition(":")[2], "--grace", "1"]
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True)
    begun = threading.Semaphore(0)

    def watch(method: str, path: str, **fields: object) -> None:
        with (
            suppress(httpx.RemoteProtocolError),  # broken off
            httpx.stream(method, f"{url}{path}", timeout=60, **fields) as reply,
        ):
            assert reply.status_code == 200
            begun.release()
            for _ in reply.iter_raw():
                pass

    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                break
        time.sleep(0.2)
    endless = {"prompt": "ab", "max_tokens": 2000, "n": 32, "logit_bias": {"1": -100}, "stream": True}
    requests = [("GET", f"/gradio_api/heartbeat/tab{tab}", {}) for tab in range(2)]
    requests.append(("POST", "/v1/completions", {"json": endless}))
    threads = [
        threading.Thread(target=watch, args=(method, path), kwargs=fields, daemon=True)
        for method, path, fields in requests
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=30)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    for thread in threads:
        thread.join(timeout=10)
