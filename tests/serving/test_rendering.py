"""A request's messages go through the chat template once, whatever is asked and however it is answered."""

import asyncio
from typing import Any

import httpx
import pytest
from conftest import serving

from longjing.serving.service import EngineLimits, Service
from longjing.text.template import ChatTemplate

ASKED: list[dict[str, Any]] = [{"role": "user", "content": "What is 34+57?"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
def renderings(monkeypatch):
    """What has been rendered since the test began."""
    rendered: list[Any] = []
    render = ChatTemplate.render

    def counting(self, messages, *args):
        rendered.append(messages)
        return render(self, messages, *args)

    monkeypatch.setattr(ChatTemplate, "render", counting)
    return rendered


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("chat/completions", {}),
        ("chat/completions", {"stream": True}),
        ("chat/completions", {"n": 3, "reasoning_effort": "none"}),
        ("chat/completions", {"tools": [TOOL], "tool_choice": "required"}),
        ("chat/completions", {"response_format": {"type": "json_object"}}),
        ("chat/completions", {"messages": [*ASKED, {"role": "assistant", "content": "It is"}]}),
        ("chat/completions", {"max_tokens": 5}),  # too few to think
        ("responses", {}),
        ("responses", {"stream": True}),
        ("responses", {"tools": [{"type": "function", "name": "add"}]}),
    ],
)
def test_the_template_is_rendered_once(r1_server, renderings, path, fields):
    body = {"messages": ASKED, "max_tokens": 12} if path != "responses" else {"input": ASKED}
    reply = httpx.post(f"{r1_server.url}/v1/{path}", json=body | fields)
    assert reply.status_code == 200, reply.text
    assert len(renderings) == 1 and renderings[0][0]["content"] == "What is 34+57?"


def test_text_continued_needs_no_template(r1_server, renderings):
    reply = httpx.post(f"{r1_server.url}/v1/completions", json={"prompt": "34+57=", "max_tokens": 2})
    assert reply.status_code == 200 and not renderings


def test_the_page_renders_once(renderings, tmp_path):
    pytest.importorskip("gradio")
    from longjing.serving.page.model_pool import ModelPool, Seat
    from longjing.serving.page.reply_stream import ChatOptions, LocalModel, stream_reply

    service = Service("cpu", limits=EngineLimits(rows=4, cache_bytes=64 << 20))
    service.load("r1")
    pool, model = ModelPool(service, tmp_path), LocalModel("longjing-r1", Seat("session", "chat"))

    async def work() -> Any:
        return [reply async for reply in stream_reply(pool, model, ASKED, ChatOptions())][-1]

    renderings.clear()
    with serving(service):
        reply = asyncio.run(work())
    assert reply.done and "91" in reply.answer and not reply.problem
    assert len(renderings) == 1
