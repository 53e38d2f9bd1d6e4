"""Tools: for templates that know them, in the form of Qwen2.5 and Hermes."""

import json
from itertools import pairwise

import httpx
import pytest
import tiny
from conftest import CACHE, serving
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from longjing.chat.grammar import GrammarCompiler
from longjing.chat.tool_calls import OPEN, ToolCall, ToolCallParser, knows_tools
from longjing.serving.service import EngineLimits, Service
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
    service = Service(limits=EngineLimits(rows=4, cache_bytes=CACHE))
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
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
    ]
    assert tokens_of(url, tools=[TOOL], messages=[*ASKED, *messages]) > tokens_of(url, tools=[TOOL])


def take_calls(text: str, cuts: list[int] | None = None) -> tuple[str, list[ToolCall]]:
    """What is said and called when it comes in pieces."""
    places, stream = [0, *(cuts or []), len(text)], ToolCallParser()
    answer = "".join(stream.feed(text[start:end]) for start, end in pairwise(places))
    rest, calls = stream.finish()
    return answer + rest, calls


def test_calls_are_taken_out():
    text = 'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>\n<tool_call>{"name": "f"}'
    answer, (first, second) = take_calls(text)
    assert answer == "Let me see."
    assert (first.name, json.loads(first.arguments), second.name, second.arguments) == ("add", {"a": 2}, "f", "{}")


@pytest.mark.parametrize(
    "written",
    [
        "nonsense", '{"name": "f", "argum', "[]", '"f"', "7", "null", '{"arguments": {}}', '{"name": 7}', "{" * 100_000,
        '{"name": ["f"]}', '{"name": "f", "arguments": [1]}', '{"name": "f", "arguments": "x"}',
        '{"name": "f", "arguments": ' + "[" * 100_000,
        '{"name": "f", "arguments": {"a": NaN}}', '{"name": "f", "arguments": {"a": "\\ud800"}}', '{"name": "\\udfff"}',
        '{"name": "f", "arguments": {"a": ' + "9" * 5000 + "}}",
        '{"name": "f", "arguments": {"a": ' + "[" * 3000 + "]" * 3000 + "}}",
    ],
    ids=lambda written: written[:30],
)  # fmt: skip
@pytest.mark.parametrize("closed", [True, False])
def test_what_is_no_call_is_told_as_text(written, closed):
    text = f"<tool_call>{written}" + closed * "</tool_call>"
    assert take_calls(text) == (text, [])
    answer, calls = take_calls(f'So \n<tool_call>{{"name": "f"}}</tool_call>\n{text}')
    assert answer == f"So \n\n{text}" and [call.name for call in calls] == ["f"]


def take_cut(text: str) -> tuple[str, list[ToolCall], list[str]]:
    """What is said, called and noted when `max_tokens` cuts the text off there."""
    stream = ToolCallParser()
    answer = stream.feed(text)
    rest, calls = stream.finish(cut=True)
    return answer + rest, calls, stream.notices


@pytest.mark.parametrize("closing", ["</tool_call>"[:length] for length in range(12)])
@pytest.mark.parametrize("cut", [True, False])
def test_a_call_whose_closing_tag_is_cut_is_a_call(closing, cut):
    text = 'So <tool_call>{"name": "f", "arguments": {"a": 1}}\n' + closing
    answer, calls, notices = take_cut(text) if cut else (*take_calls(text), [])
    assert (answer, [(call.name, call.arguments) for call in calls]) == ("So", [("f", '{"a": 1}')]) and not notices


def test_a_call_that_is_cut_off_is_given_as_far_as_it_came():
    whole = 'I see.\n<tool_call>\n{"name": "add", "arguments": {"a": "x <", "b": [1, 2]}}\n</tool_call>'
    for length in range(len("I see.\n<tool_"), len(whole) - len("}\n</tool_call>")):
        text, calls, notices = take_cut(whole[:length])
        assert text == "I see." and len(notices) == 1, whole[:length]
        has_arguments = length >= whole.index('"arguments": ') + len('"arguments":')
        assert [call.name for call in calls] == ["add"] * has_arguments
        if has_arguments:
            assert whole[:length].endswith(calls[0].arguments) and not calls[0].whole
        else:
            assert whole[7:length] in notices[0].replace("\\n", "\n")
    assert take_cut("a <")[:2] == ("a <", []) and take_cut("a <to")[:2] == ("a <to", [])


def test_a_reply_that_is_cut_off_within_a_call_says_so(url):
    body = {"messages": ASKED, "tools": [STRICT], "tool_choice": NAMED, "max_tokens": 45, "seed": 1}
    (choice,) = httpx.post(url, json=body, timeout=60).json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "length" and call["function"]["name"] == "add"
    assert choice["message"]["content"] is None and any("was cut off" in one for one in choice["notices"])
    lines = httpx.post(url, json=body | {"stream": True}, timeout=60).text.splitlines()
    chunks = [json.loads(line[6:])["choices"][0] for line in lines if line.startswith("data: {")]
    (delta,) = [one for chunk in chunks for one in chunk["delta"].get("tool_calls", ())]
    assert delta["function"] == call["function"] and chunks[-1]["finish_reason"] == "length"


@given(
    st.lists(st.sampled_from([OPEN, "</tool_call>", "<tool", '{"name": "f"}', "a", "<", " ", "\n"])).map("".join),
    st.data(),
)
def test_text_is_held_back_only_where_a_call_may_begin(text, data):
    stream, shown = ToolCallParser(), ""
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    for start, end in zip(cuts, cuts[1:], strict=False):
        shown += stream.feed(text[start:end])
    held = text[len(shown) :].lstrip()
    assert text.startswith(shown) and OPEN not in shown and (OPEN not in text or held.startswith(OPEN))
    assert not held or held.startswith(OPEN) or OPEN.startswith(held)
    answer, calls = take_calls(text, sorted(cuts))
    whole, whole_calls = take_calls(text)
    assert answer == whole and [call.name for call in calls] == [call.name for call in whole_calls]


STRICT = {"type": "function", "function": {
    "name": "add", "strict": True, "parameters": {
        "type": "object", "properties": {"a": {"$ref": "#/$defs/digit"}, "b": {"enum": ["x", "y"]}},
        "required": ["a", "b"], "additionalProperties": False, "$defs": {"digit": {"enum": [1, 2, 3]}},
    },
}}  # fmt: skip


def called(url, **fields):
    """The calls in the reply of a network that writes anything at all, and the choice."""
    body = {
        "messages": ASKED,
        "tools": [STRICT, TOOL | {"function": {"name": "any"}}],
        "max_tokens": 300,
        "temperature": 2,
    }
    reply = httpx.post(url, json=body | fields, timeout=60)
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    return choice["message"].get("tool_calls") or [], choice


NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize("seed", range(3))
def test_a_call_that_has_to_be_is_made_and_a_strict_one_keeps_to_its_schema(url, seed):
    calls, choice = called(url, tool_choice=NAMED, parallel_tool_calls=False, seed=seed)
    (call,) = calls
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] == "add" and arguments["a"] in (1, 2, 3) and arguments["b"] in ("x", "y")
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["no"]}}}
    calls, choice = called(url, tools=[STRICT], response_format=schema, seed=seed)
    assert choice["message"]["content"] == '"no"' or calls
    calls, choice = called(url, tool_choice="required", parallel_tool_calls=False, seed=seed, max_tokens=600)
    assert calls or choice["finish_reason"] == "length"


@pytest.mark.parametrize("special", [True, False])
def test_a_strict_tool_is_bound_wherever_it_is_called(special):
    tokenizer = Tokenizer.train(["x"] * 2, 290)
    if special:
        tokenizer._backend.add_tokens([AddedToken(OPEN, special=False), AddedToken("</tool_call>", special=False)])
    grammars = GrammarCompiler(tokenizer, tokenizer.vocab_size, [tokenizer.eos_id])
    made = grammars.calls({"add": STRICT["function"]["parameters"], "any": {"type": "object"}}, None, False, True)

    def refused(text: str) -> int | None:
        grammar, tokens = made.copy(), tokenizer.encode(text)
        places = (
            index for index, token in enumerate(tokens) if grammar.bias(tokens[:index], tokenizer.vocab_size)[token]
        )
        return next((len(tokenizer.decode(tokens[:index])) for index in places), None)

    good = 'I <b> see.\n<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": "x"}}\n</tool_call>'
    assert refused(good) is None and refused(good + '\n<tool_call>{"name": "any", "arguments": {"q": [1]}}') is None
    for bad in (good.replace("2", "7"), good.replace('"x"', "3"), good.replace('"add"', '"mul"')):
        assert refused(bad) is not None
    assert refused("no call") is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tools", {"tools": [TOOL, TOOL]}),
        ("tools", {"tools": [{"type": "function", "function": {"name": "f", "description": "<｜User｜>"}}]}),
        ("tools", {"tools": [{"type": "function", "function": {
            "name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {"type": "n"}}}}}]}),
        ("tools", {"tools": [
            {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "array"}}}]}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "mul"}}}),
        ("tool_choice", {"tool_choice": "required"}),
        ("messages", {"messages": [*ASKED, {"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "add", "arguments": '{"a": "<\\uff5cUser\\uff5c>"}'}}]}]}),
        ("messages", {"messages": [*ASKED, {"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "add", "arguments": "[" * 10_000 + "]" * 10_000}}]}]}),
    ],
)  # fmt: skip
def test_tools_that_cannot_be_are_refused(url, name, fields):
    reply = httpx.post(url, json={"messages": ASKED} | fields)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == name, reply.text


def test_which_templates_know_tools():
    assert knows_tools(TEMPLATE) and not knows_tools(tiny.tokenizer().template)
