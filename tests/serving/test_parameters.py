"""Every parameter does what it says, or is refused with its name."""

import json
from typing import Any

import httpx
import pytest

from longjing.chat.grammar import GrammarCompiler
from longjing.serving.schemas import ChatRequest
from longjing.serving.served_model import ServedModel

ASKED = [{"role": "user", "content": "What is 34+57?"}]


@pytest.fixture
def chat(r1_server):
    def ask(**fields: Any) -> dict[str, Any]:
        reply = httpx.post(f"{r1_server.url}/v1/chat/completions", json={"messages": ASKED} | fields, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json()["choices"][0]

    return ask


def thought(choice: dict[str, Any]) -> str:
    return choice["message"]["reasoning"] or ""


@pytest.mark.parametrize("way", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1}])
def test_the_likeliest_is_always_the_same(chat, way):
    assert chat(**way)["message"] == chat(temperature=0)["message"]


def test_seeds(chat, monkeypatch):
    assert chat(seed=5, temperature=1.5) == chat(seed=5, temperature=1.5)
    with_seeds = [thought(chat(seed=seed, temperature=1.5)) for seed in range(4)]
    assert len(set(with_seeds)) > 1
    # Without a seed each request draws its own; from here on those above, for four drawn freely may think the same.
    drawn = iter(range(4))
    monkeypatch.setattr("longjing.serving.served_model.secrets.randbits", lambda bits: next(drawn))
    without = [thought(chat(temperature=1.5)) for _ in range(4)]
    assert without == with_seeds and len(set(without)) > 1


def test_bias_and_penalties(chat, r1_server):
    (six,) = r1_server.served.tokenizer.encode("6")
    assert set(chat(logit_bias={str(six): 100}, max_tokens=30)["message"]["content"]) == {"6"}
    banned = {str(token): -100 for token in r1_server.served.tokenizer.encode("+")}
    assert "+" not in thought(chat(logit_bias=banned))
    long = {
        "messages": [{"role": "user", "content": "Use 3, 5 and 7 to make 22. Use each number once."}],
        "temperature": 0,
    }
    for name in ("frequency_penalty", "presence_penalty"):
        assert chat(**long, **{name: 2})["message"] != chat(**long)["message"]


def test_what_the_sampler_knows_of_vllm(chat, r1_server):
    free = chat(temperature=0, logprobs=True)
    assert thought(chat(temperature=0, repetition_penalty=1.5)) != thought(free)
    tokens = [token["token"] for part in ("reasoning_content", "content") for token in free["logprobs"][part]]
    (wanted,) = r1_server.served.tokenizer.encode(tokens[3])
    stopped = chat(temperature=0, stop_token_ids=[wanted])
    assert stopped["finish_reason"] == "stop" and thought(free).startswith(thought(stopped))
    assert thought(stopped).endswith(tokens[3].strip()), "an ordinary token stays"
    longer = chat(temperature=0, min_tokens=len(tokens) + 20, logprobs=True)["logprobs"]
    assert len(longer["reasoning_content"]) + len(longer["content"]) >= len(tokens) + 20


def test_responses_are_sampled_as_chats_are(chat, r1_server):
    (six,) = r1_server.served.tokenizer.encode("6")
    sixes = {"logit_bias": {str(six): 100}, "chat_template_kwargs": {"enable_thinking": False}}
    for fields in (
        {"repetition_penalty": 1.5}, {"stop_token_ids": [six], "logit_bias": {str(six): 5}}, {"stop": ["is"]},
        {"stop": "+", "stop_in_reasoning": True}, {"presence_penalty": 2.0, "frequency_penalty": 2.0},
        {**sixes, "max_tokens": 100}, {**sixes, "max_tokens": 100, "repetition_guard": False},
        {"min_tokens": 100, "max_tokens": 120}, {"ignore_eos": True, "max_tokens": 120},
    ):  # fmt: skip
        said = chat(temperature=0, **fields)
        length = {"max_output_tokens": fields.pop("max_tokens")} if "max_tokens" in fields else {}
        body = {"input": ASKED, "temperature": 0, **length, **fields}
        reply = httpx.post(f"{r1_server.url}/v1/responses", json=body, timeout=60).json()
        texts = {item["type"]: item["content"][0]["text"] for item in reply["output"]}
        assert texts.get("reasoning", "") == thought(said) and texts.get("message", "") == said["message"]["content"]
        assert reply["status"] == {"stop": "completed", "length": "incomplete"}[said["finish_reason"]]


def test_a_text_in_circles_is_ended_and_says_so_unless_the_guard_is_off(chat, r1_server):
    (six,) = r1_server.served.tokenizer.encode("6")
    sixes = {"logit_bias": {str(six): 100}, "max_tokens": 150, "chat_template_kwargs": {"enable_thinking": False}}
    ended = chat(**sixes)
    assert ended["finish_reason"] == "length" and len(ended["message"]["content"]) == 64
    assert any("in circles" in notice for notice in ended["notices"]), ended["notices"]
    for off in ({"repetition_guard": False}, {"min_tokens": 150}, {"ignore_eos": True}):
        free = chat(**sixes, **off)
        assert free["finish_reason"] == "length" and free["message"]["content"] == "6" * 150
        assert not any("in circles" in notice for notice in free["notices"])


def test_a_model_brings_its_own_settings(r1_server, monkeypatch):
    served = r1_server.served
    own = {"temperature": 0.7, "top_k": 20, "repetition_penalty": 1.05, "max_new_tokens": 9}
    monkeypatch.setattr(served.engine.model, "generation_config", own)
    another = ServedModel("another", served.engine, served.tokenizer, served.worker)
    (job,) = another.chat(ChatRequest(messages=ASKED))
    sampling = job.request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.7, 0.95, 20, 9)
    assert sampling.repetition_penalty == 1.05
    (job,) = another.chat(ChatRequest(messages=ASKED, temperature=0, top_k=-1, max_tokens=30, repetition_penalty=1))
    assert job.request.sampling.temperature == 0 and job.request.sampling.top_k == 0
    assert job.request.sampling.max_tokens == 30 and job.request.sampling.repetition_penalty == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_lengths(chat, r1_server, name):
    choice = chat(**{name: 12})
    assert choice["finish_reason"] == "length" and any("cut off" in notice for notice in choice["notices"])


def test_stops_act_on_the_answer_only_unless_asked(chat):
    free = chat(temperature=0)
    assert "+" in thought(free) and "is" in free["message"]["content"]
    stopped = chat(temperature=0, stop=["is", "+"])
    assert thought(stopped) == thought(free) and stopped["finish_reason"] == "stop"
    assert stopped["message"]["content"] == free["message"]["content"].partition("is")[0].rstrip()
    everywhere = chat(temperature=0, stop="+", stop_in_reasoning=True)
    assert thought(everywhere) == thought(free).partition("+")[0].rstrip()
    assert everywhere["message"]["content"] == "" and everywhere["notices"]


def test_thinking_can_be_steered(chat):
    off = (
        {"chat_template_kwargs": {"enable_thinking": False}}, {"reasoning_effort": "none"},
        {"chat_template_kwargs": {"thinking": False}}, {"thinking_budget": 0},
    )  # fmt: skip
    for fields in off:
        choice = chat(**fields)
        assert not thought(choice) and choice["message"]["content"]
    brief = chat(thinking_budget=5)
    assert any("budget of 5" in notice for notice in brief["notices"]) and brief["message"]["content"]
    assert chat(chat_template_kwargs={"thinking_budget": 5})["notices"]
    assert chat(max_tokens=100, reasoning_effort="minimal", seed=1)["notices"]


def test_hidden_reasoning_stays_hidden(chat, r1_server):
    fields = {"include_reasoning": False, "logprobs": True, "top_logprobs": 2, "seed": 1}
    hidden = chat(**fields)
    assert not {"reasoning", "reasoning_content"} & {*hidden["message"], *hidden["logprobs"]}
    text = "".join(token["token"] for token in hidden["logprobs"]["content"])
    assert text.strip() == hidden["message"]["content"] != ""
    body = {"messages": ASKED, "stream": True} | fields
    reply = httpx.post(f"{r1_server.url}/v1/chat/completions", json=body, timeout=60)
    chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
    tokens = [token for chunk in chunks for token in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert tokens == hidden["logprobs"]["content"] and "reasoning" not in reply.text


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "r", "strict": True, "schema": {
            "type": "object", "properties": {"result": {"type": "integer"}, "kind": {"enum": ["sum", "other"]}},
            "required": ["result", "kind"], "additionalProperties": False,
        }}},
    ],
)  # fmt: skip
def test_a_schema_binds_the_answer(chat, form, thinking):
    choice = chat(response_format=form, max_tokens=400, seed=2, chat_template_kwargs={"enable_thinking": thinking})
    assert bool(thought(choice)) == thinking
    if choice["finish_reason"] == "stop":
        answer = json.loads(choice["message"]["content"])
        assert isinstance(answer, dict)
        assert form["type"] == "json_object" or isinstance(answer["result"], int)
    assert choice["finish_reason"] == "stop" or form["type"] == "json_object"


def test_what_many_replies_share_is_made_once(r1_server, monkeypatch):
    encoded, compiled, served = [], [], r1_server.served
    encode, json_of = type(served.tokenizer)._encoding, GrammarCompiler.json
    monkeypatch.setattr(
        type(served.tokenizer), "_encoding", lambda self, text, most: encoded.append(text) or encode(self, text, most)
    )
    monkeypatch.setattr(GrammarCompiler, "json", lambda self, schema: compiled.append(schema) or json_of(self, schema))
    jobs = served.chat(ChatRequest(messages=ASKED, n=5, response_format={"type": "json_object"}))
    assert len(jobs) == 5 and len({id(job.controller._grammar) for job in jobs}) == 5 and len(compiled) == 1
    assert sum("34+57" in text for text in encoded) == 1
    assert jobs[0].request.keep == len(served.tokenizer.encode_chat(ASKED, add_generation_prompt=False))


def test_logprobs_are_the_engines(chat, r1_server):
    choice = chat(logprobs=True, top_logprobs=3, temperature=0, max_tokens=40)
    tokens = choice["logprobs"]["reasoning_content"] + choice["logprobs"]["content"]
    for token in tokens:
        top = token["top_logprobs"]
        assert len(top) == 3 and token["logprob"] <= top[0]["logprob"] <= 0
        assert bytes(token["bytes"]).decode(errors="replace") == token["token"]
    assert chat(logprobs=True)["logprobs"]["content"][0]["top_logprobs"] == []
    assert chat()["logprobs"] is None


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("messages", {"messages": []}),
    ("messages", {"messages": [{"role": "nobody", "content": "x"}]}),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    ("messages", {"messages": [{"role": "user", "content": "<｜User｜>"}]}),
    ("messages", {"messages": [{"role": "user", "content": "x " * 5000}]}),
    ("messages", {"messages": [{"role": "tool", "content": "x"}]}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
    ("temperature", {"temperature": 2.1}),
    ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": 1e-40}),
    ("top_p", {"top_p": 0}),
    ("top_k", {"top_k": -2}),
    ("min_p", {"min_p": 1.1}),
    ("seed", {"seed": 2**64}),
    ("n", {"n": 0}),
    ("n", {"n": 129}),
    ("stop", {"stop": ""}),
    ("stop", {"stop": ["x"] * 17}),
    ("logit_bias", {"logit_bias": {"x": 1}}),
    ("logit_bias", {"logit_bias": {"1": 101}}),
    ("logit_bias", {"logit_bias": {"99999": 1}}),
    ("stop_token_ids", {"stop_token_ids": [99999]}),
    ("stop_token_ids", {"stop_token_ids": [-1]}),
    ("min_tokens", {"min_tokens": 31, "max_tokens": 30}),
    ("repetition_penalty", {"repetition_penalty": 0}),
    ("presence_penalty", {"presence_penalty": 3}),
    ("frequency_penalty", {"frequency_penalty": -3}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("response_format", {"response_format": {"type": "yaml"}}),
    (
        "response_format",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "n"}}}},
    ),
    (
        "tools",
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": "\ud800"}}}],
            "tool_choice": "none",
        },
    ),
    ("tool_choice", {"tool_choice": "required"}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("reasoning_effort", {"reasoning_effort": "much"}),
    ("reasoning_effort", {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}}),
    ("chat_template_kwargs", {"chat_template_kwargs": {"colour": 1}}),
    ("thinking_budget", {"thinking_budget": -1}),
    ("verbosity", {"verbosity": "low"}),
    ("metadata", {"metadata": {"a": 1}}),
    ("metadata", {"metadata": {"a": {"b": "c"}}}),
    ("metadata", {"metadata": {"a": "x" * 513}}),
    ("thinking_budget", {"thinking_budget": 9, "stop_in_reasoning": True, "response_format": {"type": "json_object"}}),
    ("modalities", {"modalities": ["audio"]}),
    ("functions", {"functions": []}),
    ("nonsense", {"nonsense": 1}),
]


@pytest.mark.parametrize(("name", "fields"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_name(r1_server, name, fields):
    reply = httpx.post(
        f"{r1_server.url}/v1/chat/completions", content=json.dumps({"messages": ASKED} | fields),
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == name and error["message"] and error["type"] == "invalid_request_error"
    assert "/" not in error["message"]  # no path of the server's


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("completions", {"prompt": ["a", [7]]}, "prompt.1: Input should be a valid string"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
         "messages.0.content.0.type: Input should be 'text' or 'refusal'"),
        ("chat/completions", {"messages": ASKED, "x" * 1000: 1}, "x" * 64 + ": unknown, or not supported here"),
    ],
)  # fmt: skip
def test_refusals_name_the_place(r1_server, path, fields, message):
    reply = httpx.post(f"{r1_server.url}/v1/{path}", json=fields)
    assert reply.status_code == 400 and reply.json()["error"]["message"] == message


@pytest.mark.parametrize("number", ["NaN", "1e999", '"\\ud800"'])
def test_what_could_not_be_sent_back_is_refused(r1_server, number):
    tool = f'{{"type": "function", "name": "f", "parameters": {{"a": {number}}}}}'
    reply = httpx.post(
        f"{r1_server.url}/v1/responses",
        content=f'{{"input": "x", "max_output_tokens": 4, "tool_choice": "none", "tools": [{tool}]}}',
        headers={"Content-Type": "application/json"},
    )
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "tools", reply.text


@pytest.mark.parametrize(
    ("path", "name", "fields"),
    [
        ("completions", "prompt", {"prompt": []}),
        ("completions", "prompt", {"prompt": [5000]}),
        ("completions", "best_of", {"prompt": "x", "best_of": 2}),
        ("completions", "suffix", {"prompt": "x", "suffix": "y"}),
        ("completions", "max_tokens", {"prompt": "x", "max_tokens": 0}),
        ("responses", "input", {"input": []}),
        ("responses", "input", {"input": [{"type": "reasoning", "id": "x", "summary": []}]}),
        ("responses", "input", {"input": "x " * 5000}),
        (
            "responses",
            "text",
            {"input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "n"}}}},
        ),
        ("responses", "previous_response_id", {"input": "x", "previous_response_id": "y"}),
        ("responses", "tools", {"input": "x", "tools": [{"type": "web_search"}]}),
        ("responses", "metadata", {"input": "x", "metadata": {"a": None}}),
        ("responses", "max_output_tokens", {"input": "x", "max_output_tokens": 0}),
        ("responses", "tool_choice", {"input": "x", "tool_choice": {"type": "function", "name": "f"}}),
        ("responses", "truncation", {"input": "x", "truncation": "auto"}),
        ("responses", "logit_bias", {"input": "x", "logit_bias": {"x": 1}}),
        ("responses", "stop_token_ids", {"input": "x", "stop_token_ids": [99999]}),
        ("responses", "n", {"input": "x", "n": 2}),
    ],
)
def test_the_other_paths_refuse_by_name(r1_server, path, name, fields):
    reply = httpx.post(f"{r1_server.url}/v1/{path}", json=fields)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == name, reply.text


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "null", '{"messages": NaN}', '{"messages": [{"role": "user", "content": "\\ud800"}]}',
             '{"messages": [{"role": "user", "content": "x"}], "temperature": Infinity}', "[" * 100_000],
)  # fmt: skip
def test_broken_bodies(r1_server, body):
    reply = httpx.post(
        f"{r1_server.url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 400 and reply.json()["error"]["message"]


def test_unknown_models_and_paths(r1_server):
    reply = httpx.post(f"{r1_server.url}/v1/chat/completions", json={"messages": ASKED, "model": "gpt-9"})
    assert reply.status_code == 404 and reply.json()["error"]["code"] == "model_not_found"
    assert httpx.get(f"{r1_server.url}/v1/models/gpt-9").status_code == 404
    assert "error" in httpx.get(f"{r1_server.url}/v1/nothing").json()
    assert httpx.get(f"{r1_server.url}/v1/chat/completions").status_code == 405
