"""Keys, sizes, times, queues, other people's pages; and what the server says of itself."""

import contextlib
import socket
import threading
import time

import httpx
import pytest
from conftest import serving, small
from prometheus_client.parser import text_string_to_metric_families

from longjing.serving.api import ApiConfig
from longjing.serving.service import EngineLimits

ENDLESS = {"prompt": "ab", "max_tokens": 400, "logit_bias": {"1": -100}}  # the end token never comes


def settled(running) -> None:
    """Wait until nothing runs; the cache must be empty then."""
    deadline = time.monotonic() + 10
    while running.served.worker.load and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running.served.worker.load == 0
    time.sleep(0.1)
    assert running.served.engine.memory_in_use == 0


def test_the_key():
    with serving(small(), ApiConfig(key="secret")) as running:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            reply = httpx.get(f"{running.url}/v1/models", headers=headers)
            assert reply.status_code == 401 and reply.json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{running.url}/v1/models", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert httpx.get(f"{running.url}/health").status_code == 200


def test_sizes():
    with serving(small(), ApiConfig(request_bytes=1000)) as running:
        url, headers = f"{running.url}/v1/completions", {"Content-Type": "application/json"}
        assert httpx.post(url, json={"prompt": "a" * 2000}).status_code == 413
        chunks = iter([b'{"prompt": "' + b"a" * 2000, b'"}'])
        assert httpx.post(url, content=chunks, headers=headers).status_code == 413
        assert httpx.post(url, content=iter([b'{"prompt":', b'"ab"}']), headers=headers).status_code == 200


def test_times():
    with serving(small(), ApiConfig(seconds=0.05)) as running:
        url = f"{running.url}/v1/completions"
        reply = httpx.post(url, json=ENDLESS)
        assert reply.status_code == 504 and "0.05 s" in reply.json()["error"]["message"]
        with httpx.stream("POST", url, json=ENDLESS | {"stream": True}) as stream:
            assert '"error"' in "".join(stream.iter_text())
        settled(running)
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            assert b" 408 " in connection.recv(1000)  # and not for as long as the client likes


def test_a_full_queue():
    with serving(small(EngineLimits(rows=2, queue=1))) as running:
        url = f"{running.url}/v1/completions"
        for name, fields in (("n", {"n": 4}), ("prompt", {"prompt": ["ab"] * 2, "n": 2})):
            never = httpx.post(url, json=ENDLESS | fields)  # however long one waits
            assert never.status_code == 400 and never.json()["error"]["param"] == name
        body = {"messages": [{"role": "user", "content": "x"}], "n": 4}
        never = httpx.post(f"{running.url}/v1/chat/completions", json=body)
        assert never.status_code == 400 and never.json()["error"]["param"] == "n"
        with contextlib.ExitStack() as streams:
            for _ in range(3):
                reply = streams.enter_context(httpx.stream("POST", url, json=ENDLESS | {"stream": True}))
                assert reply.status_code == 200
            refused = httpx.post(url, json=ENDLESS)
            assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
            assert refused.json()["error"]["type"] == "rate_limit_error"
        settled(running)
        assert httpx.post(url, json=ENDLESS).status_code == 200


@pytest.mark.parametrize("allowed", [True, False])
def test_other_pages(allowed):
    origin = "https://elsewhere.example"
    with serving(small(), ApiConfig(origins=[origin] if allowed else [], key="k")) as running:
        asks = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        reply = httpx.options(f"{running.url}/v1/completions", headers=asks)
        assert (reply.headers.get("access-control-allow-origin") == origin) == allowed
        reply = httpx.get(f"{running.url}/v1/models", headers={"Origin": origin, "Authorization": "Bearer k"})
        assert (reply.headers.get("access-control-expose-headers") == "Retry-After") == allowed


def test_the_context_is_what_the_cache_can_hold():
    with serving(small(EngineLimits(rows=2, cache_bytes=50_000))) as running:
        length = running.served.context
        assert length == running.served.engine.capacity < 512
        assert httpx.get(f"{running.url}/v1/models").json()["data"][0]["max_model_len"] == length
        url, prompt = f"{running.url}/v1/completions", [5] * 10
        reply = httpx.post(url, json={"prompt": [5] * length})
        assert reply.status_code == 400 and reply.json()["error"]["code"] == "context_length_exceeded"
        assert httpx.post(url, json={"prompt": prompt, "max_tokens": length - 10}).status_code == 200
        scored = {"echo": True, "logprobs": 0, "max_tokens": 0}  # which needs no room for a reply
        for most, status in ((length, 200), (length + 1, 400)):
            assert httpx.post(url, json=scored | {"prompt": [5] * most}).status_code == status


def test_a_model_can_come_while_others_are_told_of():
    service = small()
    seen = iter(service.models.values())
    tiny_served = next(seen)
    service.serve("other", tiny_served.engine.model, tiny_served.tokenizer)
    assert list(seen) == [] and list(service.models) == ["tiny", "other"]
    service.close()


def test_metrics_move(tiny_server):
    def sample(name: str) -> float:
        families = text_string_to_metric_families(httpx.get(f"{tiny_server.url}/metrics").text)
        return sum(one.value for family in families for one in family.samples if one.name == f"longjing_{name}")

    before = {name: sample(name) for name in ("sampled_tokens_total", "prompt_tokens_total", "requests_total")}
    httpx.post(f"{tiny_server.url}/v1/completions", json=ENDLESS | {"max_tokens": 7})
    settled(tiny_server)
    assert sample("sampled_tokens_total") == before["sampled_tokens_total"] + 7
    assert sample("prompt_tokens_total") > before["prompt_tokens_total"]
    assert sample("requests_total") == before["requests_total"] + 1
    assert sample("first_token_seconds_count") > 0 and sample("cache_tokens") == 0


def test_a_broken_engine_leaves_nobody_waiting(monkeypatch, caplog):
    with serving(small()) as running:
        url = f"{running.url}/v1/completions"
        replies = []

        def ask() -> None:
            replies.append(httpx.post(url, json=ENDLESS, timeout=20).status_code)

        def stream() -> None:
            with httpx.stream("POST", url, json=ENDLESS | {"stream": True}, timeout=20) as reply:
                replies.append(500 if '"error"' in "".join(reply.iter_text()) else 200)

        threads = [threading.Thread(target=work) for work in (ask, ask, stream, stream)]

        def broken():
            raise RuntimeError("out of luck")

        for thread in threads:
            thread.start()
        while not running.served.worker.load:
            time.sleep(0.001)
        monkeypatch.setattr(running.served.engine, "step", broken)
        for thread in threads:
            thread.join(timeout=20)
        assert len(replies) == 4 and set(replies) <= {500, 503}  # who came later was told at once
        assert httpx.get(f"{running.url}/health").status_code == 503
        assert httpx.post(url, json=ENDLESS).status_code == 503
