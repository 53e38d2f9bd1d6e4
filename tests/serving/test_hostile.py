"""What one request may cost: whatever it holds, it ends in time, and the others are served meanwhile."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from conftest import serving, small
from hostile import IMPOSSIBLE, LINKS, chain, record, requests
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.chat.grammar import GrammarCompiler
from longjing.errors import UserError
from longjing.serving.service import EngineLimits
from longjing.text.tokenizer import Tokenizer, TooLong

SECONDS = 30.0  # for one request, on a machine that does much else


@contextmanager
def healthy(url: str, within: float = 2.0):
    """Somebody asks for /health all the while, and is answered."""
    waits, done = [0.0], threading.Event()

    def ask() -> None:
        with httpx.Client() as client:
            while not done.wait(0.05):
                began = time.monotonic()
                assert client.get(f"{url}/health", timeout=60).status_code == 200
                waits.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield waits
    finally:
        done.set()
        thread.join()
    assert max(waits) < within


@pytest.fixture(scope="module")
def url():
    with serving(small(EngineLimits(rows=32, queue=64))) as running:
        yield running.url


@pytest.fixture(scope="module")
def grammars():
    tokenizer = Tokenizer.train(["x"] * 2, 290)
    return GrammarCompiler(tokenizer, tokenizer.vocab_size, [tokenizer.eos_id])


def chat(url: str, schema: object, **fields: object) -> httpx.Response:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = {"messages": [{"role": "user", "content": "?"}], "response_format": form, "max_tokens": 12} | fields
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


@pytest.mark.parametrize("kind", [kind for kind in LINKS if kind not in ("two", "both")])
def test_a_chain_of_references_is_refused_and_kills_nobody(url, kind):
    reply = chat(url, chain(2000, LINKS[kind]))
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "response_format"
    assert "go too deep" in reply.json()["error"]["message"]
    assert chat(url, chain(20, LINKS[kind])).status_code == 200


def test_so_it_is_for_the_other_ways_to_the_compiler(url):
    schema = chain(2000, LINKS["items"])
    form = {"type": "json_schema", "name": "n", "schema": schema}
    reply = httpx.post(f"{url}/v1/responses", json={"input": "?", "text": {"format": form}}, timeout=60)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "text"


def test_strict_tools_are_tried_too(grammars):
    for schema in (record(a=chain(2000, LINKS["items"])), record(a=False), chain(2000, lambda one: record(a=one))):
        with pytest.raises(UserError):
            grammars.calls({"f": schema}, None, False, True)
    grammars.calls({"f": record(a={"type": "integer"})}, None, False, True)


@pytest.mark.parametrize("schema", IMPOSSIBLE, ids=json.dumps)
def test_what_no_text_satisfies_is_refused(url, schema):
    reply = chat(url, schema)
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "response_format", reply.text


def test_what_takes_too_long_to_prepare_is_refused_while_others_are_served(url):
    with healthy(url):
        reply = chat(url, {"allOf": [{"type": "string", "pattern": f"a.{{{n}}}b"} for n in range(1, 40)]})
    assert reply.status_code == 400 and "takes more than" in reply.json()["error"]["message"]


def test_a_grammar_that_fails_in_the_middle_is_an_error_of_that_request(tiny_server, monkeypatch):
    def fail(self, tokens, vocabulary):
        raise UserError("it leaves no way to go on")

    monkeypatch.setattr("longjing.chat.grammar.Grammar.bias", fail)
    reply = chat(tiny_server.url, {"type": "integer"}, max_tokens=100)
    assert reply.status_code == 400 and "no way to go on" in reply.json()["error"]["message"]
    assert reply.json()["error"]["param"] == "response_format"
    streamed = chat(tiny_server.url, {"type": "integer"}, max_tokens=100, stream=True).text
    assert '"error"' in streamed and '"finish_reason":"stop"' not in streamed
    assert httpx.post(f"{tiny_server.url}/v1/completions", json={"prompt": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "fields"),
    [
        ("chat/completions", "messages", {"messages": [{"role": "user", "content": "ab " * 2_500_000}]}),
        ("completions", "prompt", {"prompt": "ab " * 2_500_000}),
        ("responses", "input", {"input": "ab " * 2_500_000}),
    ],
)
def test_a_prompt_of_megabytes_is_refused_at_once_in_words_that_clients_know(url, path, name, fields):
    with healthy(url), ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        replies = list(pool.map(lambda _: httpx.post(f"{url}/v1/{path}", json=fields, timeout=60), range(4)))
        assert time.monotonic() - began < SECONDS
    for reply in replies:
        error = reply.json()["error"]
        assert reply.status_code == 400 and error["code"] == "context_length_exceeded" and error["param"] == name
        assert "This model's maximum context length is 512 tokens" in error["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", '{"messages": [' + "{}," * 1_500_000 + "{}]}"),
        ("chat/completions", '{"messages": [{"role": "user", "content": [' + "{}," * 1_500_000 + "{}]}]}"),
        ("completions", '{"prompt": [' + "1.5," * 1_000_000 + "1]}"),
        ("responses", '{"input": [' + "{}," * 1_000_000 + "{}]}"),
        ("completions", '{"prompt": "a", ' + ",".join(f'"x{n}": 1' for n in range(300_000)) + "}"),
        ("chat/completions", '{"messages": [], "logit_bias": {' + ",".join(f'"{n}": 1' for n in range(300_000)) + "}}"),
    ],
    ids=["messages", "parts", "ids", "items", "fields", "logit_bias"],
)  # fmt: skip
def test_a_million_wrong_elements_are_one_error(url, path, body):
    began = time.monotonic()
    reply = httpx.post(f"{url}/v1/{path}", content=body, headers={"Content-Type": "application/json"}, timeout=60)
    assert reply.status_code == 400 and time.monotonic() - began < 10


def test_more_tokens_than_there_is_room_for_are_taken_for_what_there_is(url):
    body = {"prompt": [5] * 500, "max_tokens": 32768}
    (choice,) = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()["choices"]
    assert choice["notices"] == ["max_tokens = 32768 is more than the context has room for: it was taken for 12."]
    assert httpx.post(f"{url}/v1/completions", json=body | {"prompt": [5] * 512}, timeout=60).status_code == 400


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300), st.integers(1, 60))
def test_a_text_is_refused_just_when_it_has_too_many_tokens(text, most):
    tokenizer = TOKENIZER
    exact = tokenizer.encode(text)
    for whole in (text, text * 50):
        exact = tokenizer.encode(whole)
        if len(exact) <= most:
            assert tokenizer.encode(whole, most) == exact
        else:
            with pytest.raises(TooLong, match=r"\d+ tokens"):
                tokenizer.encode(whole, most)


TOKENIZER = Tokenizer.train(["the cat sat on the mat, and what is 34+57?", " " * 200] * 3, 400)


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from conftest import address, build, listen, run, small
service = small()
bound = listen("127.0.0.1", 0)
run(build(service), service, bound, 1, lambda server: print(address(bound), flush=True))
"""


@pytest.fixture
def process_url():
    """A server in a process of its own, which is there to the end."""
    program = PROGRAM.format(tests=os.path.dirname(__file__))
    paths = os.pathsep.join([os.path.dirname(os.path.dirname(__file__)), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=30) == 0


def attack(url: str, hostile: list[tuple[str, bytes]]) -> float:
    """The longest that a request took."""

    def ask(request: tuple[str, bytes]) -> float:
        began = time.monotonic()
        path, body = request
        reply = httpx.post(f"{url}{path}", content=body, headers={"Content-Type": "application/json"}, timeout=120)
        assert reply.status_code < 500, (path, body[:500], reply.text)
        return time.monotonic() - began

    with ThreadPoolExecutor(4) as pool:
        return max(pool.map(ask, hostile))


def test_no_request_kills_hangs_or_raises(process_url):
    hostile = requests(seed=1, count=40)
    with healthy(process_url):
        assert attack(process_url, hostile) < SECONDS


@pytest.mark.slow
def test_none_of_a_thousand_does(process_url):
    hostile = requests(seed=2, count=1000)
    with healthy(process_url, within=10.0) as waits:
        longest = attack(process_url, hostile)
    print(f"\nthe slowest of 1,000 took {longest:.1f} s, /health {max(waits):.2f} s at most")
    assert longest < SECONDS
