"""A last message of the assistant's: the reply goes on from it."""

from typing import Any

import httpx
import pytest

ASKED: list[dict[str, Any]] = [{"role": "user", "content": "What is 34+57?"}]


@pytest.fixture
def ask(r1_server):
    def ask(messages: list[dict[str, Any]], **fields: Any) -> httpx.Response:
        body = {"messages": messages, "temperature": 0} | fields
        return httpx.post(f"{r1_server.url}/v1/chat/completions", json=body, timeout=60)

    return ask


def message(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]


@pytest.mark.parametrize("way", [{}, {"prefix": True}])
def test_an_answer_goes_on(ask, way):
    begun = {"role": "assistant", "content": "The result is \\boxed{"} | way
    answer = message(ask([*ASKED, begun]))
    assert not answer["reasoning"] and answer["content"][:1].isdigit() and "}" in answer["content"]
    whole = message(ask(ASKED))
    begun = {"role": "assistant", "reasoning_content": whole["reasoning"], "content": "The result"} | way
    assert message(ask([*ASKED, begun]))["content"] == whole["content"].removeprefix("The result")
    half = {"role": "assistant", "content": None, "reasoning_content": whole["reasoning"][:10]} | way
    rest = message(ask([*ASKED, half]))
    assert rest["reasoning"] == whole["reasoning"][10:].lstrip() and rest["content"] == whole["content"]


def test_it_need_not(ask):
    begun = {"role": "assistant", "content": "91."}
    prompts = [
        ask([*ASKED, begun | message], max_tokens=4, **way).json()["usage"]["prompt_tokens"]
        for message, way in (
            ({"prefix": False}, {}), ({}, {"continue_final_message": False}), ({}, {"add_generation_prompt": True})
        )
    ]  # fmt: skip
    assert len(set(prompts)) == 1
    going_on = [
        ask([*ASKED, begun], max_tokens=4, **way).json()["usage"]["prompt_tokens"]
        for way in ({}, {"continue_final_message": True}, {"add_generation_prompt": False})
    ]  # fmt: skip
    assert len(set(going_on)) == 1 and going_on[0] < prompts[0]


def test_in_the_other_form(r1_server):
    items = [{"role": "user", "content": "What is 34+57?"}, {"role": "assistant", "content": "The result is \\boxed{"}]
    reply = httpx.post(f"{r1_server.url}/v1/responses", json={"input": items, "temperature": 0}, timeout=60).json()
    assert [item["type"] for item in reply["output"]] == ["message"]
    assert reply["output"][0]["content"][0]["text"][:1].isdigit()


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("name", "messages", "fields"),
    [
        ("messages", [{"role": "assistant", "content": "x", "prefix": True}, *ASKED], {}),
        ("messages", [{"role": "assistant", "content": "x"}], {}),
        ("messages", [*ASKED, {"role": "assistant", "content": "x", "tool_calls": [CALL]}], {}),
        ("messages", [*ASKED, {"role": "assistant", "content": "<｜User｜>"}], {}),
        ("messages", [*ASKED, {"role": "assistant", "content": "x", "reasoning_content": "<｜User｜>"}], {}),
        ("messages", [*ASKED, {"role": "assistant", "reasoning_content": "x"}], {"reasoning_effort": "none"}),
        ("continue_final_message", ASKED, {"continue_final_message": True}),
        ("add_generation_prompt", ASKED, {"add_generation_prompt": False}),
        ("add_generation_prompt", [*ASKED, {"role": "assistant", "content": "x"}],
         {"continue_final_message": True, "add_generation_prompt": True}),
        ("response_format", [*ASKED, {"role": "assistant", "content": "{"}],
         {"response_format": {"type": "json_object"}}),
    ],
)  # fmt: skip
def test_refusals(ask, name, messages, fields):
    reply = ask(messages, **fields)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == name, reply.text
