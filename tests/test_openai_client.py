"""Other people's servers: whatever they answer, there are pieces of text or one sentence that says why not."""

import asyncio
import json
import threading
import time
from functools import partial

import httpx
import pytest
from fake_endpoint import FakeEndpoint, Response
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.openai_client import Endpoint, EndpointError, complete, stream, with_retries

FIELDS = st.sampled_from(["choices", "delta", "content", "reasoning", "finish_reason"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
events = values | values.map(lambda delta: {"choices": [{"delta": {"content": "4"}}, delta]})


def answer_of(handler) -> str:
    """All that is said by a server that answers as `handler` does."""

    async def work() -> str:
        text = ""
        async for piece in stream(Endpoint("http://elsewhere/v1", "m", "k"), {"messages": []}):
            text += piece.answer
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "AsyncClient", partial(httpx.AsyncClient, transport=httpx.MockTransport(handler)))
        return asyncio.run(work())


def lines(*sent: str) -> bytes:
    return "".join(f"data: {line}\n\n" for line in sent).encode()


def delta(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]})


def test_what_is_said_comes_however_it_is_cut():
    body = lines(delta("<think>so</think>"), delta("4 龙"), delta("2"), "[DONE]").replace(b"\n", b"\r\n")

    async def cut():
        for start in range(0, len(body), 5):
            yield body[start : start + 5]

    assert answer_of(lambda request: httpx.Response(200, content=cut())).strip() == "4 龙2"


@given(st.lists(events | st.just("{"), max_size=4))
@settings(max_examples=40, deadline=None)
def test_odd_events(sent):
    texts = [event if event == "{" else json.dumps(event) for event in sent]
    try:
        answer_of(lambda request: httpx.Response(200, content=lines(*texts)))
    except UserError as problem:
        assert "http://elsewhere/v1" in str(problem)


@pytest.mark.parametrize("start", [b"", b"data: "])
def test_an_answer_without_end_is_broken_off(start):
    async def endless():
        yield start
        while True:
            yield b"x" * 100_000

    with pytest.raises(UserError, match="no answer to a question"):
        answer_of(lambda request: httpx.Response(200, content=endless()))
    with pytest.raises(UserError, match="answered 500: .*xxx"):
        answer_of(lambda request: httpx.Response(500, content=endless()))


def test_nested_without_end():
    with pytest.raises(UserError, match="no answer"):
        answer_of(lambda request: httpx.Response(200, content=lines("[" * 100_000)))


@pytest.mark.parametrize(
    ("response", "transient", "says"),
    [
        (Response(500, {}), True, "status 500"), (Response(529, {}), True, "status 529"),
        (Response(520, {}), True, "status 520"), (Response(429, {}, {"Retry-After": "7"}), True, "status 429"),
        (Response(501, {}), False, "status 501"), (Response(400, {"error": "no"}), False, "no"),
        (Response(307, {}, {"Location": "http://elsewhere"}), False, "status 307"),
        (Response(200, b"[" * (17 << 20)), True, "over 16 MiB"), (Response(200, b"[" * 100_000), True, "no JSON"),
        (Response(200, {"error": "busy"}), True, "no chat completion"),
        (Response(hang_up=True), True, "closed|reset|without"),
    ],
)  # fmt: skip
def test_an_error_says_whether_asking_again_may_help(response, transient, says):
    with FakeEndpoint(lambda request, attempt: response) as fake:
        with pytest.raises(EndpointError, match=says) as caught:
            complete(Endpoint(fake.base_url, "m"), {"messages": []}, 5.0)
        assert len(fake.requests) == 1
    assert caught.value.transient is transient
    assert caught.value.wait == (7 if response.status == 429 else 0)


def test_attempts_end_before_the_deadline_and_when_somebody_says_stop():
    stop, asked_at = threading.Event(), []

    def ask():
        asked_at.append(time.monotonic())
        raise EndpointError("busy", wait=5.0)

    with pytest.raises(EndpointError) as caught:
        with_retries(ask, 9, 0.01, 1.0, deadline=time.monotonic() + 2.0)
    assert len(asked_at) == caught.value.attempts == 1, "the server asks for more time than there is"
    stop.set()
    with pytest.raises(EndpointError):
        with_retries(ask, 9, 0.01, 1.0, stop=stop)
    assert len(asked_at) == 2


@pytest.mark.parametrize("endpoint", [Endpoint("http://[::1/v1", "m"), Endpoint("http://127.0.0.1:1/v1", "m", "a\nb")])
def test_what_no_request_holds_is_not_asked_again(endpoint):
    with pytest.raises(EndpointError) as caught:
        complete(endpoint, {}, 1.0)
    assert not caught.value.transient
