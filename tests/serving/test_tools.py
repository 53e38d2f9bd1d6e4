"""Tools: for templates that know them, in the form of Qwen2.5 and Hermes."""

import json

import httpx
import pytest
import tiny
from conftest import serving
from hypothesis import given
from hypothesis import strategies as st

from longjing.serving.chat import _until_call
from longjing.serving.service import Limits, Service
from longjing.serving.tools import OPEN, knows_tools, take_calls
from longjing.text.tokenizer import Tokenizer

TEMPLATE = (
    "{{ bos_token }}{% if tools %}Tools: {% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "Call with <tool_call>{...}</tool_call>.{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ASKED = [{"role": "user", "content": "2+3?"}]


@pytest.fixture(scope="module")
def url():
    plain = tiny.tokenizer()
    tokenizer = Tokenizer(plain._backend, plain._config, TEMPLATE, "a template that knows tools")
    service = Service(limits=Limits(rows=4))
    service.serve("tiny", tiny.network("llama", max_position_embeddings=2048), tokenizer)
    with serving(service) as running:
        yield f"{running.url}/v1/chat/completions"


def tokens_of(url, **fields):
    reply = httpx.post(url, json={"messages": ASKED, "max_tokens": 3} | fields)
    assert reply.status_code == 200, reply.text
    return reply.json()["usage"]["prompt_tokens"]


def test_tools_and_their_results_reach_the_template(url):
    bare = tokens_of(url)
    assert tokens_of(url, tools=[TOOL]) > bare == tokens_of(url, tools=[TOOL], tool_choice="none")
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}
    said = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
    ]
    assert tokens_of(url, tools=[TOOL], messages=[*ASKED, *said]) > tokens_of(url, tools=[TOOL])
    call["function"]["arguments"] = "{"
    reply = httpx.post(url, json={"messages": [*ASKED, *said], "tools": [TOOL]})
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "messages"


def test_calls_are_taken_out():
    text = 'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>\n<tool_call>{"name": "f"}'
    said, (first, second) = take_calls(text)
    assert said == "Let me see."
    assert (first.name, json.loads(first.arguments), second.name, second.arguments) == (
        "add",
        {"a": 2},
        "f",
        "{}",
    )
    assert take_calls("<tool_call>nonsense</tool_call>") == ("<tool_call>nonsense</tool_call>", [])


@given(st.lists(st.sampled_from([OPEN, "</tool_call>", "<tool", "{}", "a", "<"])).map("".join), st.data())
def test_text_is_held_back_only_where_a_call_may_begin(text, data):
    shown, held = "", ""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    for start, end in zip(cuts, cuts[1:], strict=False):
        said, held = _until_call(held + text[start:end])
        shown += said
    assert shown + held == text and shown == text[: len(shown)]
    assert OPEN not in shown and (OPEN not in text or held.startswith(OPEN))
    assert not held or held.startswith(OPEN) or OPEN.startswith(held)


def test_which_templates_know_tools():
    assert knows_tools(TEMPLATE) and not knows_tools(tiny.tokenizer().template)
