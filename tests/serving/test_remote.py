"""Other people's servers: whatever they answer, there are pieces of text or one sentence that says why not."""

import asyncio
import json
from functools import partial

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.serving import remote

FIELDS = st.sampled_from(["choices", "delta", "content", "reasoning", "finish_reason"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
events = values | values.map(lambda delta: {"choices": [{"delta": {"content": "4"}}, delta]})


def asked(handler) -> str:
    """All that is said by a server that answers as `handler` does."""

    async def work() -> str:
        said = ""
        async for piece in remote.ask("http://elsewhere/v1", "m", "k", [], {}):
            said += piece.answer
        return said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            httpx, "AsyncClient", partial(httpx.AsyncClient, transport=httpx.MockTransport(handler))
        )
        return asyncio.run(work())


def lines(*sent: str) -> bytes:
    return "".join(f"data: {line}\n\n" for line in sent).encode()


def delta(text: str) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}}]})


def test_what_is_said_comes_however_it_is_cut():
    body = lines(delta("<think>so</think>"), delta("4 龙"), delta("2"), "[DONE]").replace(b"\n", b"\r\n")

    async def cut():
        for place in range(0, len(body), 5):
            yield body[place : place + 5]

    assert asked(lambda request: httpx.Response(200, content=cut())).strip() == "4 龙2"


@given(st.lists(events | st.just("{"), max_size=4))
@settings(max_examples=40, deadline=None)
def test_odd_events(sent):
    texts = [event if event == "{" else json.dumps(event) for event in sent]
    try:
        asked(lambda request: httpx.Response(200, content=lines(*texts)))
    except UserError as problem:
        assert "http://elsewhere/v1" in str(problem)


@pytest.mark.parametrize("start", [b"", b"data: "])
def test_an_answer_without_end_is_broken_off(start):
    async def endless():
        yield start
        while True:
            yield b"x" * 100_000

    with pytest.raises(UserError, match="no answer to a question"):
        asked(lambda request: httpx.Response(200, content=endless()))
    with pytest.raises(UserError, match="answered 500: .*xxx"):
        asked(lambda request: httpx.Response(500, content=endless()))


def test_nested_without_end():
    with pytest.raises(UserError, match="no answer"):
        asked(lambda request: httpx.Response(200, content=lines("[" * 100_000)))
