"""What messages may hold: nothing that says something is dropped, and what says nothing is not refused."""

import json
import random
from typing import Any

import httpx
import pytest
import tiny
from conftest import CACHE, serving

from longjing.serving.service import EngineLimits, Service
from longjing.text.tokenizer import Tokenizer

ASKED: list[dict[str, Any]] = [{"role": "user", "content": "What is 34+57?"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
# Knows tools and the results of calls, and writes all that it is given.
TEMPLATE = (
    "{{ bos_token }}{% if tools %}Call with <tool_call>.{{ tools | tojson }}{% endif %}{% for message in messages %}"
    "<{{ message.role }}>{{ message.content }}{% for call in message.tool_calls or [] %}"
    "<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def knowing():
    """A server whose template knows tools, and that template's tokenizer."""
    plain = tiny.tokenizer()
    tokenizer = Tokenizer(plain._backend, plain._config, TEMPLATE, "a template that knows tools")
    service = Service(limits=EngineLimits(rows=8, queue=500, cache_bytes=CACHE))
    service.serve("tiny", tiny.network("llama", max_position_embeddings=2048), tokenizer)
    with serving(service) as running:
        yield running


def post(server: Any, path: str = "chat/completions", **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/{path}", content=json.dumps({"max_tokens": 3} | fields), timeout=60,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip


def read(server: Any, **fields: Any) -> int:
    """How many tokens the model was given."""
    reply = post(server, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("contnet", {"role": "user", "contnet": "hi"}),
        ("contnet", {"role": "user", "content": "hi", "contnet": "ho"}),
        ("content", {"role": "user"}),
        ("content", {"role": "user", "content": None}),
        ("content", {"role": "system"}),
        ("content", {"role": "developer", "content": None}),
        ("content", {"role": "tool", "tool_call_id": "c1"}),
        ("content", {"role": "user", "content": []}),
        ("content", {"role": "user", "content": 5}),
        ("content", {"role": "user", "content": {"text": "hi"}}),
        ("content", {"role": "assistant"}),
        ("content", {"role": "assistant", "content": None, "tool_calls": []}),
        ("content.0.text", {"role": "user", "content": [{"type": "text"}]}),
        ("content.0.text", {"role": "user", "content": [{"type": "text", "text": None}]}),
        ("content.0.txet", {"role": "user", "content": [{"type": "text", "txet": "hi"}]}),
        ("content.1.type", {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "sound"}]}),
        ("content.0.type", {"role": "user", "content": [{"text": "a"}]}),
        ("content.0.type", {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
        ("audio", {"role": "assistant", "content": "x", "audio": {"id": "a"}}),
        ("function_call", {"role": "assistant", "content": "x", "function_call": {"name": "f", "arguments": ""}}),
        ("images", {"role": "user", "content": "x", "images": ["data:"]}),
        ("tool_calls", {"role": "user", "content": "x", "tool_calls": [CALL]}),
        ("prefix", {"role": "user", "content": "x", "prefix": True}),
        ("tool_calls.0.function.arguments", {"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "f", "arguments": 5}}]}),
        ("tool_calls.0.function.nmae", {"role": "assistant", "tool_calls": [
            {"id": "c", "function": {"name": "f", "nmae": "g"}}]}),
        ("tool_calls.0.type", {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}),
    ],
)  # fmt: skip
def test_what_would_be_dropped_is_refused_with_its_path(tiny_server, path, message):
    for messages, number in (([message, *ASKED], 0), ([*ASKED, message, *ASKED], 1)):
        reply = post(tiny_server, messages=messages)
        error = reply.json()["error"]
        assert reply.status_code == 400 and error["param"] == "messages", reply.text
        assert error["message"].startswith(f"messages.{number}.{path}:"), error["message"]


@pytest.mark.parametrize(
    "extra",
    [
        {"name": "Ada"}, {"annotations": [], "audio": None, "function_call": None, "tool_calls": None},
        {"refusal": None}, {"reasoning_content": "hm"}, {"reasoning": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"cache_control": {"type": "ephemeral"}}, {"provider_specific_fields": {"refusal": None}},
        {"thinking_blocks": []},
        {"id": "msg_1"}, {"parsed": None}, {"images": None, "whatever": None}, {"tool_calls": []}, {"prefix": False},
    ],
)  # fmt: skip
def test_what_says_nothing_is_taken(r1_server, extra):
    reply = {"role": "assistant", "content": "91"}
    bare = read(r1_server, messages=[*ASKED, reply, *ASKED])
    assert read(r1_server, messages=[*ASKED, reply | extra, *ASKED]) == bare
    if not {"refusal", "prefix"} & set(extra):
        assert read(r1_server, messages=[ASKED[0] | extra, reply, *ASKED]) == bare


def test_an_empty_text_is_a_text(r1_server):
    for content in ("", [{"type": "text", "text": ""}]):
        assert read(r1_server, messages=[{"role": "user", "content": content}])
        assert read(r1_server, messages=[*ASKED, {"role": "assistant", "content": content}, *ASKED])


def test_parts_are_texts_of_their_own(r1_server):
    one = [{"role": "user", "content": "What is\n34+57?"}]
    parts = [
        {"type": "text", "text": "What is", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "34+57?"},
    ]
    assert read(r1_server, messages=one) == read(r1_server, messages=[{"role": "user", "content": parts}])
    items = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "What is"}, {"type": "input_text", "text": "34+57?"}],
        }
    ]
    reply = post(r1_server, "responses", input=items, max_tokens=None, max_output_tokens=3)
    assert reply.json()["usage"]["input_tokens"] == read(r1_server, messages=one)
    refused = [*ASKED, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, *ASKED]
    same = [*ASKED, {"role": "assistant", "content": None, "refusal": "No."}, *ASKED]
    assert read(r1_server, messages=refused) == read(r1_server, messages=same)


def test_a_developer_is_the_system(r1_server):
    for index in (0, 1):
        prompts = [read(r1_server, messages=[*ASKED[:index], {"role": role, "content": "Be brief."}, *ASKED[index:]])
                for role in ("system", "developer")]  # fmt: skip
        assert prompts[0] == prompts[1] > read(r1_server, messages=ASKED)


@pytest.mark.parametrize("arguments", ["", "  ", None, "{}", {}, "null"])
def test_a_call_without_arguments(knowing, arguments):
    def history(function: dict[str, Any]) -> list[dict[str, Any]]:
        call = {"id": "c1", "type": "function", "index": 0, "function": {"name": "add"} | function}
        result = {"role": "tool", "tool_call_id": "c1", "content": "5"}
        return [*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}, result]

    assert read(knowing, messages=history({"arguments": arguments})) == read(knowing, messages=history({}))


@pytest.mark.parametrize("arguments", ['{"a": 1', '{"a', "[1]", "7", '{"a": NaN}', "nonsense"])
def test_arguments_that_are_no_object_go_as_they_are(knowing, arguments):
    served = knowing.served
    call = CALL | {"function": {"name": "add", "arguments": arguments}}
    messages = [*ASKED, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "5"}]
    call = {"type": "function", "function": {"name": "add", "arguments": arguments}}
    history = [*ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "5"}]
    assert read(knowing, messages=messages) == len(served.tokenizer.encode_chat(history))


def test_calls_that_a_template_would_leave_out_are_refused(r1_server):
    reply = post(r1_server, messages=[*ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}, *ASKED])
    assert reply.status_code == 400 and "tool_calls" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        dict.fromkeys((
            "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "n", "stop", "logit_bias",
            "tools", "tool_choice", "response_format", "stream", "stream_options", "logprobs", "top_logprobs", "user",
            "metadata", "store", "service_tier", "reasoning_effort", "modalities", "functions", "function_call",
            "prediction", "web_search_options", "verbosity", "anything",
        )),
        {"store": True, "service_tier": "auto", "user": "u", "safety_identifier": "s", "prompt_cache_key": "k",
         "metadata": {"a": "b"}, "verbosity": "medium", "parallel_tool_calls": True, "tools": [], "stop": [],
         "response_format": {"type": "text"}, "logit_bias": {}, "n": 1, "modalities": ["text"]},
        *({"reasoning_effort": effort} for effort in ("none", "minimal", "low", "medium", "high", "xhigh")),
        {"seed": -(2**63)}, {"seed": 2**63 - 1}, {"response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "object"}, "strict": None, "description": None}}},
    ],
)  # fmt: skip
def test_parameters_that_change_nothing(r1_server, fields):
    assert post(r1_server, messages=ASKED, **fields).status_code == 200


TOOL = {"type": "function", "function": {"name": "add", "parameters": {
    "type": "object", "properties": {"a": {"enum": [1, 2, 3]}}, "required": ["a"]}}}  # fmt: skip
NAMED = {"type": "function", "function": {"name": "add"}}


def test_tools_that_the_template_does_not_know(r1_server):
    for extra in ({}, {"tool_choice": "auto"}, {"tools": [TOOL | {"function": TOOL["function"] | {"strict": True}}]}):
        reply = post(r1_server, messages=ASKED, **({"tools": [TOOL]} | extra), max_tokens=60)
        (choice,) = reply.json()["choices"]
        assert any("not told of the tools" in notice for notice in choice["notices"]) and choice["message"]["content"]
    assert read(r1_server, messages=ASKED, tools=[TOOL]) == read(r1_server, messages=ASKED)
    reply = post(r1_server, messages=ASKED, tools=[TOOL], tool_choice="none", max_tokens=60)
    assert not any("told of the tools" in notice for notice in reply.json()["choices"][0]["notices"])
    stream = post(r1_server, messages=ASKED, tools=[TOOL], stream=True).text
    assert "not told of the tools" in stream
    flat = [{"type": "function"} | TOOL["function"]]
    reply = post(r1_server, "responses", input="x", tools=flat, max_tokens=None, max_output_tokens=60)
    assert any("not told of the tools" in notice for notice in reply.json()["notices"])


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_a_call_that_has_to_be_is_made_though_the_template_knows_no_tools(r1_server, choice):
    reply = post(r1_server, messages=ASKED, tools=[TOOL], tool_choice=choice, max_tokens=200, seed=1)
    (choice,) = reply.json()["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["a"] in (1, 2, 3) and choice["finish_reason"] == "tool_calls"
    assert any("bound to a call" in notice for notice in choice["notices"])


GOOD: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "2+3?"}], "name": "Ada"},
    {"role": "assistant", "content": None, "tool_calls": [CALL | {"index": 0}], "refusal": None},
    {"role": "tool", "tool_call_id": "c1", "content": "5"},
    {"role": "assistant", "content": "5", "reasoning_content": "hm", "annotations": []},
    {"role": "user", "content": "And now?"},
]
JUNK: list[Any] = [
    None, "", "x", 0, -1, 2**70, 1.5, True, [], {}, [None], [[]], {"type": "text"}, "\ud800", "</think>", "<think>",
    "assistant", "<tool_call>", ["x"], {"a": {"b": [1]}}, "{", '{"a": 1}',
]  # fmt: skip


def mutated(value: Any, dice: random.Random) -> Any:
    """A copy with one place of it changed, wherever that is."""
    if isinstance(value, list | dict) and value and dice.random() < 0.85:
        copy = list(value) if isinstance(value, list) else dict(value)
        key = dice.choice(range(len(copy)) if isinstance(copy, list) else list(copy))
        change = dice.random()
        if change < 0.1:
            del copy[key]
        elif change < 0.2 and isinstance(copy, dict):
            copy[str(key)[::-1]] = copy.pop(key)
        elif change < 0.3 and isinstance(copy, list):
            copy.insert(key, copy[dice.randrange(len(copy))])
        else:
            copy[key] = mutated(copy[key], dice)
        return copy
    return dice.choice(JUNK)


def test_no_shape_of_messages_breaks_the_server(knowing):
    dice, codes = random.Random(15), set[int]()
    with httpx.Client(timeout=30) as client:
        for _ in range(250):
            body: Any = {"messages": GOOD, "max_tokens": 2, "tools": [TOOL], "continue_final_message": None}
            for _ in range(dice.choice([1, 1, 2, 4])):
                body = mutated(body, dice)
            if not isinstance(body, dict):
                continue
            url = f"{knowing.url}/v1/{dice.choice(['chat/completions'] * 4 + ['responses'])}"
            if url.endswith("responses") and "messages" in body:
                body = {"input": body["messages"], "max_output_tokens": 2}
            reply = client.post(url, content=json.dumps(body), headers={"Content-Type": "application/json"})
            codes.add(reply.status_code)
            assert reply.status_code in (200, 400, 404), (body, reply.text)
            if reply.status_code == 400:
                assert reply.json()["error"]["param"], (body, reply.text)
    assert {200, 400} <= codes and knowing.served.worker.failure is None
