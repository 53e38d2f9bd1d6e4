"""Clients that leave, dawdle or ask too much, and a server that is told to stop: nothing is lost and nothing stays."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
from test_limits import ENDLESS, settled

STREAMED = ENDLESS | {"stream": True}
PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import conftest
from conftest import application, listen, run, small, address
conftest.page_is_on = {page}
service = small()
bound = listen("127.0.0.1", 0)
run(application(service), service, bound, {grace}, lambda server: print(address(bound), flush=True))
print("left", flush=True)
"""


def test_clients_that_leave_in_mid_stream(tiny_server):
    def leave(seed: int) -> None:
        pieces = random.Random(seed).randrange(4)
        with httpx.stream("POST", f"{tiny_server.url}/v1/completions", json=STREAMED) as reply:
            for number, _ in enumerate(reply.iter_lines()):
                if number >= pieces:
                    return

    threads = [threading.Thread(target=leave, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    started = tiny_server.served.engine.stats.steps
    settled(tiny_server)
    assert tiny_server.served.engine.stats.steps - started < 400  # it didn't go on to the end for nobody


def test_a_client_that_leaves_before_the_answer(tiny_server):
    host, port = tiny_server.url.removeprefix("http://").split(":")
    body = b'{"prompt": "ab", "max_tokens": 400, "logit_bias": {"1": -100}}'
    lines = (
        "POST /v1/completions HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    head = "\r\n".join(lines) + "\r\n\r\n"
    for _ in range(4):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.03)
    settled(tiny_server)


def test_a_slow_reader_holds_no_row(tiny_server):
    with httpx.stream("POST", f"{tiny_server.url}/v1/completions", json=STREAMED) as reply:
        lines = reply.iter_lines()
        next(lines)
        settled(tiny_server)  # while it hasn't read the rest
        assert list(lines)[-2] == "data: [DONE]"


def test_too_long_a_prompt_leaves_nothing(tiny_server):
    reply = httpx.post(f"{tiny_server.url}/v1/completions", json={"prompt": "ab " * 2000})
    assert reply.status_code == 400 and reply.json()["error"]["code"] == "context_length_exceeded"
    settled(tiny_server)


def _started(grace: float, page: bool) -> tuple[subprocess.Popen[str], str]:
    program = PROGRAM.format(tests=os.path.dirname(__file__), grace=grace, page=page)
    paths = os.pathsep.join([os.path.dirname(os.path.dirname(__file__)), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_told_to_stop_it_finishes_what_runs(with_page):
    process, url = _started(60, with_page)
    ends, begun = [], threading.Semaphore(0)

    def ask() -> None:
        with httpx.stream("POST", f"{url}/v1/completions", json=STREAMED, timeout=60) as reply:
            lines = reply.iter_lines()
            next(lines)
            begun.release()
            ends.append(list(lines)[-2])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(timeout=60)
    assert ends == ["data: [DONE]"] * 8
    assert process.wait(timeout=10) == 0
    assert process.stdout is not None and process.stdout.read().strip() == "left"


def test_told_to_stop_it_sends_away_who_waits_and_tells_who_is_broken_off(with_page):
    process, url = _started(2, with_page)
    ends = {}

    def ask(name: str, **fields: object) -> None:
        reply = httpx.post(f"{url}/v1/completions", json=ENDLESS | fields, timeout=30)
        ends[name] = reply.status_code, reply.headers.get("Retry-After")

    def stream(lines: object) -> None:
        ends["stream"] = list(lines)[-2]

    slow = ENDLESS | {"n": 16, "max_tokens": 500}
    with httpx.stream(
        "POST", f"{url}/v1/completions", json=slow | {"stream": True, "prompt": ["ab"] * 4}, timeout=30
    ) as reply:
        lines = reply.iter_lines()
        next(lines)
        threads = [threading.Thread(target=ask, args=("waits",)), threading.Thread(target=stream, args=(lines,))]
        threads[0].start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        threads[1].start()
        began = time.monotonic()
        threads[0].join(timeout=20)
        assert ends["waits"] == (503, "5") and time.monotonic() - began < 2
        threads[1].join(timeout=20)
    assert "server_error" in ends["stream"] and process.wait(timeout=10) == 0


def test_told_to_stop_it_leaves_after_the_grace(with_page):
    process, url = _started(1, with_page)
    endless = STREAMED | {"n": 16}
    with httpx.stream("POST", f"{url}/v1/completions", json=endless, timeout=30) as reply:
        next(reply.iter_raw(1))
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(timeout=15) == 0  # though nobody reads
        assert time.monotonic() - began < 8
