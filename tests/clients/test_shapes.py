"""The requests of clients that are too heavy to install."""

import json
from itertools import pairwise
from typing import Any

import httpx
import pytest

ASKED: Any = [{"role": "user", "content": "What is 34+57?"}]


def post(server: Any, path: str, **fields: Any) -> dict[str, Any]:
    reply = httpx.post(f"{server.url}/v1/{path}", json={"model": "longjing-r1"} | fields, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def chunks(server: Any, path: str, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "longjing-r1", "stream": True} | fields
    reply = httpx.post(f"{server.url}/v1/{path}", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]


def test_open_webui(r1_server):
    """The shape of its request, from its documentation and excerpts: its tools go along with every question."""
    tool = {"name": "get_time", "description": "The time.", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": tool}]
    history = [{"role": "system", "content": "Be brief."}, *ASKED, {"role": "assistant", "content": "91"}, *ASKED]
    stream = chunks(
        r1_server, "chat/completions", messages=history, tools=tools, stream_options={"include_usage": True}
    )
    notices = [notice for chunk in stream for one in chunk["choices"] for notice in one.get("notices", ())]
    assert stream[-1]["usage"]["completion_tokens"] and any("not told of the tools" in one for one in notices)


def test_lm_eval_scores_choices(r1_server):
    """0.4, `local-completions`: prompts as tokens, their log-probabilities with one token more, which is dropped."""
    tokenizer = r1_server.served.tokenizer
    contexts, choices = tokenizer.encode("2+3="), [tokenizer.encode(text) for text in ("5", "7", "")]
    fields = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    reply = post(r1_server, "completions", prompt=[contexts + choice for choice in choices], **fields)
    for choice, tokens in zip(reply["choices"], choices, strict=True):
        rows = choice["logprobs"]
        lengths = {len(rows[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}
        assert lengths == {len(contexts) + len(tokens) + 1}
        assert rows["token_logprobs"][0] is None and rows["top_logprobs"][0] is None
        for own, top in list(zip(rows["token_logprobs"], rows["top_logprobs"], strict=True))[1:]:
            assert len(top) == 1 and own <= max(top.values()) + 1e-6 and own <= 0
        assert choice["text"].startswith(tokenizer.decode(contexts + tokens))
        assert rows["text_offset"] == sorted(rows["text_offset"])
    # A greedy completion's own log-probabilities are those that it has as a prompt.
    whole = post(r1_server, "completions", prompt="2+3=", temperature=0, max_tokens=8, logprobs=2)["choices"][0]
    text, written = "2+3=" + whole["text"], whole["logprobs"]
    for longest in (0, 1):
        again = post(r1_server, "completions", prompt=text, echo=True, logprobs=2, max_tokens=longest, temperature=0)
        (choice,), count = again["choices"], len(tokenizer.encode(text))
        assert len(choice["logprobs"]["tokens"]) == count + longest and choice["text"].startswith(text)
        if not longest:
            assert choice["text"] == text and choice["finish_reason"] == "length"
            assert again["usage"]["completion_tokens"] == 0
        same = choice["logprobs"]["token_logprobs"][len(contexts) :][: len(written["tokens"])]
        if choice["logprobs"]["tokens"][len(contexts) :][: len(written["tokens"])] == written["tokens"]:
            assert same == pytest.approx(written["token_logprobs"][: len(same)], abs=1e-4)


def test_echo_streamed_is_the_whole(r1_server):
    fields = {"prompt": ["2+3=", "x"], "echo": True, "logprobs": 1, "max_tokens": 4, "seed": 1, "n": 2}
    whole = post(r1_server, "completions", **fields)["choices"]
    parts = [one for chunk in chunks(r1_server, "completions", **fields) for one in chunk["choices"]]
    for choice in whole:
        mine = [part for part in parts if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in mine) == choice["text"]
        for name, values in choice["logprobs"].items():
            assert [value for part in mine for value in part["logprobs"][name]] == values


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_guidellm(r1_server, path):
    """0.8: usage with every piece, and exactly as many tokens as it wants."""
    body = {"messages": ASKED} if path.startswith("chat") else {"prompt": "2+3="}
    options = {"include_usage": True, "continuous_usage_stats": True}
    stream = chunks(r1_server, path, **body, max_tokens=90, stop=None, ignore_eos=True, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in stream if chunk.get("usage")]
    assert len(counts) > len(stream) // 2 and all(before <= after for before, after in pairwise(counts))
    assert counts[-1] == 90 and stream[-1]["choices"] == []
    plain = chunks(r1_server, path, **body, max_tokens=9, stream_options={"include_usage": True})
    assert [bool(chunk["usage"]) for chunk in plain] == [False] * (len(plain) - 1) + [True]


def test_references_to_earlier_items(r1_server):
    """The AI SDK sends no text of its own replies again, but says which they were."""
    items = [{"role": "user", "content": [{"type": "input_text", "text": "What is 34+57?"}]}]
    first = post(r1_server, "responses", input=items, store=True)
    references = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    again = post(r1_server, "responses", input=[*items, *references, *items])
    assert (
        again["usage"]["input_tokens"]
        == (post(r1_server, "responses", input=[*items, *first["output"], *items])["usage"]["input_tokens"])
    )
    events = chunks(r1_server, "responses", input=items)
    references = [{"type": "item_reference", "id": item["id"]} for item in events[-1]["response"]["output"]]
    assert post(r1_server, "responses", input=[*items, *references, *items])["output"]
    unkept = post(r1_server, "responses", input=items, store=False)["output"][-1]["id"]
    for id in ("msg_0", unkept):
        broken = {"input": [*items, {"type": "item_reference", "id": id}, *items]}
        reply = httpx.post(f"{r1_server.url}/v1/responses", json=broken)
        assert reply.status_code == 400 and reply.json()["error"]["param"] == "input"
        assert reply.json()["error"]["message"].startswith("input.1.id:")


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_response_includes(r1_server, stream):
    """LiteLLM's adapters, Codex and the AI SDK ask for what is included anyway, or never comes."""
    include = ["reasoning.encrypted_content", "web_search_call.action.sources", "message.output_text.logprobs"]
    fields = {"input": "What is 34+57?", "include": include, "top_logprobs": 2, "temperature": 0}
    if stream:
        events = chunks(r1_server, "responses", **fields)
        response = events[-1]["response"]
        deltas = [one for event in events if event["type"].endswith("output_text.delta") for one in event["logprobs"]]
    else:
        response = post(r1_server, "responses", **fields)
    (part,) = response["output"][-1]["content"]
    assert "".join(token["token"] for token in part["logprobs"]).strip() == part["text"]
    assert all(len(token["top_logprobs"]) == 2 for token in part["logprobs"])
    assert not stream or deltas == part["logprobs"][: len(deltas)] and deltas
    reply = httpx.post(f"{r1_server.url}/v1/responses", json={"input": "x", "include": ["nonsense"]})
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "include"
