"""An endpoint is asked patiently, at most so many times at once, and never twice for the same."""

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from evaluation_cases import Doubles, good, number_in
from fake_endpoint import FakeEndpoint, Response, completion
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.evaluation import EndpointClient, EvalConfig, Evaluation, Price, measure
from longjing.evaluation.answer_log import AnswerLog, LoggedReply
from longjing.openai_client import read_completion, seconds_until
from longjing.problems import Completion, Problem

CONFIG = EvalConfig(problems=4, samples=3, seed=1, temperature=0.6, top_p=0.95, max_tokens=99)
Respond = Callable[[dict[str, Any], int], Response]


def question_number(request: dict[str, Any]) -> int:
    return number_in(request["messages"][-1]["content"])


def right(request: dict[str, Any], attempt: int = 1) -> Response:
    n = question_number(request)
    return completion(f"\\boxed{{{2 * n}}}", reasoning_content=f"{n}+{n}", reasoning_tokens=4)


def evaluated(fake: FakeEndpoint, answers: Path, procedure: EvalConfig = CONFIG, **options: Any) -> Evaluation:
    endpoint = EndpointClient(fake.base_url, "m", answers, **{"pause": 0.001, "timeout": 5.0} | options)
    return measure(endpoint, Doubles(), procedure)


def test_an_endpoint_is_measured_like_any_model(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with FakeEndpoint(right) as fake:
        endpoint = EndpointClient(fake.base_url + "/", "m", tmp_path / "deep" / "a.jsonl", key="secret")
        price = Price(read=1.0, written=2.0)
        evaluation = measure(endpoint, Doubles(), CONFIG, price=price, on_progress=lambda *at: seen.append(at))
    assert (evaluation.pass_at_1, evaluation.maj_at_k, evaluation.well_formed) == (1.0, 1.0, 1.0)
    assert (evaluation.tokens, evaluation.prompt_tokens, evaluation.flops) == (120, 84, None)
    assert evaluation.money == pytest.approx((84 + 2 * 120) / 1e6)
    assert evaluation.records[2].reasoning_lengths == [4] * 3
    assert evaluation.records[2].text == "<think>\n2+2\n</think>\n\n\\boxed{4}"
    assert seen == [(n, 10 * n) for n in range(1, 13)]
    assert {key for key in fake.keys} == {"Bearer secret"}
    assert len({request["seed"] for request in fake.requests}) == 12
    for request in fake.requests:
        assert request["path"] == "/v1/chat/completions"
        assert [message["role"] for message in request["messages"]] == ["user"], "no system prompt"
        assert (request["temperature"], request["top_p"], request["max_tokens"]) == (0.6, 0.95, 99)
        assert 0 <= request["seed"] < 2**31
    assert "secret" not in (tmp_path / "deep" / "a.jsonl").read_text()


TROUBLES = [
    Response(500, {"error": "oops"}),
    Response(429, {}, {"Retry-After": "0"}),
    Response(hang_up=True),
    Response(200, b"<html>"),
    Response(200, {"error": {"code": 502}}),
    Response(200, {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
    Response(200, {"choices": [{"message": {"content": ""}, "finish_reason": "error", "error": {"code": 502}}]}),
    Response(200, b'{"choi', {"Content-Length": "99"}),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=range(len(TROUBLES)))
def test_what_passes_is_tried_again(tmp_path: Path, trouble: Response) -> None:
    with FakeEndpoint(lambda request, attempt: trouble if attempt < 3 else right(request)) as fake:
        evaluation = evaluated(fake, tmp_path / "a.jsonl", replace(CONFIG, problems=1))
    assert evaluation.pass_at_1 == 1.0
    assert len(fake.requests) == 3 * 3


def test_patience_doubles_and_obeys_the_server(tmp_path: Path) -> None:
    times: list[float] = []

    def respond(request: dict[str, Any], attempt: int) -> Response:
        times.append(time.monotonic())
        return [Response(503), Response(503), Response(429, {}, {"Retry-After": "1"}), right(request)][attempt - 1]

    with FakeEndpoint(respond) as fake:
        evaluated(fake, tmp_path / "a.jsonl", EvalConfig(1, 1), pause=0.1)
    first, second, third = (after - before for before, after in zip(times, times[1:], strict=False))
    assert first >= 0.075 and second >= 0.15, "the pause doubles, give or take a quarter"
    assert third >= 1.0, "as the server asked"


def test_a_silent_server_counts_as_lost(tmp_path: Path) -> None:
    release = threading.Event()

    def respond(request: dict[str, Any], attempt: int) -> Response:
        if attempt == 1:
            release.wait(5)
        return right(request)

    with FakeEndpoint(respond) as fake:
        assert evaluated(fake, tmp_path / "a.jsonl", EvalConfig(1, 2), timeout=0.1).pass_at_1 == 1.0
        with pytest.raises(UserError, match="1 attempts: .*timed out"):
            evaluated(fake, tmp_path / "b.jsonl", EvalConfig(2, 1, seed=9), timeout=0.1, retries=0)
        release.set()


def test_a_lasting_trouble_keeps_what_was_answered(tmp_path: Path) -> None:
    broken = True

    def respond(request: dict[str, Any], attempt: int) -> Response:
        return Response(503, {"error": "overloaded"}) if broken and question_number(request) == 2 else right(request)

    path = tmp_path / "a.jsonl"
    with FakeEndpoint(respond) as fake:
        with pytest.raises(UserError, match=r"3 attempts: status 503: .*overloaded.* kept in .*a\.jsonl"):
            evaluated(fake, path, retries=2, concurrency=2)
        before = len(fake.requests)
        kept = len(path.read_text().splitlines())
        assert 6 <= kept < 12
        broken = False
        evaluation = evaluated(fake, path)
    assert len(fake.requests) - before == 12 - kept, "what was answered isn't asked again"
    assert evaluation.pass_at_1 == 1.0


@pytest.mark.parametrize(
    ("response", "says"),
    [
        (Response(401, {"error": {"message": "Incorrect key"}}), "Incorrect key.*OPENAI_API_KEY"),
        (Response(404, {}), "/v1.*model 'm'"),
        (Response(400, {"error": "max_tokens is not supported"}), "max_tokens is not supported.*--request"),
        (Response(302, {}, {"Location": "http://elsewhere/v1"}), "http://elsewhere/v1"),
    ],
)  # fmt: skip
def test_what_does_not_pass_is_said_at_once(tmp_path: Path, response: Response, says: str) -> None:
    with FakeEndpoint(lambda request, attempt: response) as fake:
        with pytest.raises(UserError, match=says):
            evaluated(fake, tmp_path / "a.jsonl", concurrency=2)
        assert len(fake.requests) <= 2, "each of the two asked once, and stopped"


def test_a_redirect_does_not_hand_on_the_key(tmp_path: Path) -> None:
    with FakeEndpoint(right) as other:
        away = Response(307, {}, {"Location": f"{other.base_url}/chat/completions"})
        with FakeEndpoint(lambda request, attempt: away) as fake, pytest.raises(UserError, match="redirects"):
            evaluated(fake, tmp_path / "a.jsonl", key="secret")
        assert other.requests == []


def test_so_many_requests_at_once_and_no_more(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def respond(request: dict[str, Any], attempt: int) -> Response:
        together.wait(5)  # breaks unless three are there at once
        return right(request)

    with FakeEndpoint(respond) as fake:
        evaluated(fake, tmp_path / "a.jsonl", concurrency=3, retries=0)
        assert fake.busiest == 3


def test_an_error_of_the_caller_stops_the_asking(tmp_path: Path) -> None:
    def stop(done: int, tokens: int) -> None:
        raise KeyboardInterrupt

    with FakeEndpoint(right) as fake:
        endpoint = EndpointClient(fake.base_url, "m", tmp_path / "a.jsonl", concurrency=1)
        with pytest.raises(KeyboardInterrupt):
            measure(endpoint, Doubles(), CONFIG, on_progress=stop)
        time.sleep(0.1)
        assert len(fake.requests) < 12
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeEndpoint, bytes, Evaluation]:
    """A server, the file of a whole evaluation, and that evaluation."""
    path = tmp_path_factory.mktemp("whole") / "a.jsonl"
    with FakeEndpoint(right) as fake:
        evaluation = evaluated(fake, path)
        yield fake, path.read_bytes(), evaluation


@settings(max_examples=25)
@given(share=st.floats(0, 1))
def test_a_kill_at_any_byte_costs_the_lost_lines_only(
    whole: tuple[FakeEndpoint, bytes, Evaluation], tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    fake, content, evaluation = whole
    left = content[: round(share * len(content))]
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    path.write_bytes(left)
    before = len(fake.requests)
    again = evaluated(fake, path)
    assert len(fake.requests) - before == 12 - left.count(b"\n")
    assert again.records == evaluation.records
    assert timeless(path.read_bytes()) == timeless(content)


def timeless(log: bytes) -> list[str]:
    """Its lines in one order, without what the clock decides."""
    return sorted(json.dumps(json.loads(line) | {"seconds": 0}) for line in log.splitlines())


def test_other_settings_ask_anew_in_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with FakeEndpoint(right) as fake, FakeEndpoint(right) as other:
        evaluated(fake, path)
        assert len(evaluated(fake, path, replace(CONFIG, samples=5)).records[0].outcomes) == 5
        assert len(fake.requests) == 20, "two more samples of each"
        evaluated(fake, path, replace(CONFIG, temperature=0.7))
        evaluated(fake, path, fields={"reasoning_effort": "high"})
        assert len(fake.requests) == 44
        evaluated(other, path)
        assert len(other.requests) == 12, "another server is another model"
        evaluated(fake, path)
        assert len(fake.requests) == 44


def test_fields_are_added_and_left_out(tmp_path: Path) -> None:
    fields = {"seed": None, "max_tokens": None, "max_completion_tokens": 50, "reasoning_effort": "low"}
    with FakeEndpoint(right) as fake:
        evaluation = evaluated(fake, tmp_path / "a.jsonl", fields=fields)
        evaluated(fake, tmp_path / "a.jsonl", fields=fields)
    assert len(fake.requests) == 12, "samples are told apart without a seed, too"
    assert evaluation.samples == 3
    for request in fake.requests:
        assert not {"seed", "max_tokens"} & request.keys()
        assert (request["max_completion_tokens"], request["reasoning_effort"]) == (50, "low")


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (completion("\\boxed{0}", reasoning_content="0+0"), ("0+0", "\\boxed{0}", True, False, 2)),
        (completion("\\boxed{0}", reasoning="0+0"), ("0+0", "\\boxed{0}", True, False, 2)),
        (completion("<think>0+0</think>\\boxed{0}"), ("0+0", "\\boxed{0}", True, False, 2)),
        (completion(good(0)), ("0+0", "\\boxed{0}", True, False, 2)),
        (completion("\\boxed{0}"), ("", "\\boxed{0}", False, False, 0)),
        (completion(None, "length", reasoning_content="0+0"), ("0+0", "", False, True, 10)),
        (completion("\\box", "length", reasoning_content="0"), ("0", "\\box", True, True, 2)),
        (completion("\\box", "content_filter"), ("", "\\box", False, True, 0)),
        (completion("", None), ("", "", False, False, 0)),
        (completion(None, "end_turn", reasoning_content="0+0"), ("0+0", "", False, False, 10)),
        (completion("0", reasoning_content="0", reasoning_tokens=7), ("0", "0", True, False, 7)),
    ],
)  # fmt: skip
def test_a_reply_is_taken_apart_however_the_server_puts_it(
    tmp_path: Path, response: Response, expected: tuple[str, str, bool, bool, int]
) -> None:
    with FakeEndpoint(lambda request, attempt: response) as fake:
        endpoint = EndpointClient(fake.base_url, "m", tmp_path / "a.jsonl")
        evaluation = measure(endpoint, Doubles(), EvalConfig(1, 1))
        reply = next(iter(AnswerLog(tmp_path / "a.jsonl", fake.base_url).replies.values()))
    parts = Completion.of([reply.turn])
    assert (parts.reasoning, parts.answer, parts.well_formed, parts.truncated) == expected[:4]
    assert reply.reasoning_tokens == expected[4]
    assert evaluation.truncated == expected[3]


@pytest.mark.parametrize(
    "reason",
    ["stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", None, "finished", "length",
     "MAX_TOKENS", "content_filter"],
)  # fmt: skip
def test_only_what_was_cut_off_counts_as_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reason: str | None
) -> None:
    """Servers have many words for an end. One that nobody knows is an end too, and is told of once."""

    def respond(request: dict[str, Any], attempt: int) -> Response:
        return completion(good(question_number(request)), reason)

    cut = reason in ("length", "MAX_TOKENS", "content_filter")
    with FakeEndpoint(respond) as fake:
        endpoint = EndpointClient(fake.base_url, "m", tmp_path / "a.jsonl")
        for _ in range(2):
            evaluation = measure(endpoint, Doubles(), CONFIG)
            assert (evaluation.truncated, evaluation.pass_at_1) == ((1, 0) if cut else (0, 1))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (reason in (None, "finished"))
    assert all(f"{reason or 'unknown'!r}" in message and "count as ended" in message for message in warnings)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["choices", "usage", "message", "content", "finish_reason"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_server_says_is_a_reply_a_passing_trouble_or_refused(body: bytes) -> None:
    try:
        reply = LoggedReply.of(read_completion(body))
    except UserError:
        return
    assert len(Completion.of([reply.turn]).answer) <= len(reply.text)


def test_a_server_that_does_not_count_tokens_is_refused(tmp_path: Path) -> None:
    silent = right({"messages": [{"content": "Double 1!"}]})
    del silent.body["usage"]
    with (
        FakeEndpoint(lambda request, attempt: silent) as fake,
        pytest.raises(UserError, match="no chat completion with its usage"),
    ):
        evaluated(fake, tmp_path / "a.jsonl", retries=1)


def parts(*deltas: Any) -> Response:
    answer = completion("")
    answer.body["choices"][0]["message"]["content"] = list(deltas)
    return answer


TEXT = [{"type": "text", "text": "\\box"}, {"type": "text", "text": "ed{0}"}]


@pytest.mark.parametrize("thought", ["0+0", [{"type": "text", "text": "0+"}, {"type": "text", "text": "0"}], None])
def test_content_in_parts_is_put_together(tmp_path: Path, thought: Any) -> None:
    before = [] if thought is None else [{"type": "thinking", "thinking": thought}]
    with FakeEndpoint(lambda request, attempt: parts(*before, *TEXT)) as fake:
        evaluation = evaluated(fake, tmp_path / "a.jsonl", EvalConfig(1, 1))
    assert evaluation.pass_at_1 == 1.0
    assert evaluation.records[0].parts.reasoning == ("" if thought is None else "0+0")


@pytest.mark.parametrize("content", [[{"type": "image_url"}], [3], {"text": "x"}, 3])
def test_a_reply_of_an_unknown_form_says_where_it_is_unknown(tmp_path: Path, content: Any) -> None:
    answer = completion("")
    answer.body["choices"][0]["message"]["content"] = content
    with FakeEndpoint(lambda request, attempt: answer) as fake:
        with pytest.raises(UserError, match=r"3 attempts: no chat completion .*message\.content"):
            evaluated(fake, tmp_path / "a.jsonl", concurrency=1, retries=2, pause=0.0)
        assert len(fake.requests) == 3


@given(st.floats(0, 3600) | st.integers(0, 3600), st.sampled_from([False, True]))
def test_a_server_says_in_seconds_or_as_a_date_how_long_to_wait(seconds: float, usegmt: bool) -> None:
    assert seconds_until(str(seconds)) == pytest.approx(seconds)
    at = formatdate(time.time() + seconds, usegmt=usegmt)
    assert seconds_until(at) == pytest.approx(seconds, abs=2)


@given(st.text() | st.sampled_from(["nan", "inf", "-1", "1e400", "Wed, 21 Oct 99999 07:28:00 GMT", "7200"]))
def test_no_server_makes_anybody_wait_longer_than_an_hour(retry_after: str) -> None:
    assert 0 <= seconds_until(retry_after) <= 3600


def test_a_short_time_out_does_not_cut_the_wait_that_a_server_asks_for(tmp_path: Path) -> None:
    times: list[float] = []

    def respond(request: dict[str, Any], attempt: int) -> Response:
        times.append(time.monotonic())
        return Response(429, {}, {"Retry-After": "0.7"}) if attempt == 1 else right(request)

    with FakeEndpoint(respond) as fake:
        evaluated(fake, tmp_path / "a.jsonl", EvalConfig(1, 1), timeout=0.3)
    assert times[1] - times[0] >= 0.7


@pytest.mark.parametrize(
    ("field", "instead"),
    [({"model": "x"}, "MODEL"), ({"model": None}, "MODEL"), ({"messages": []}, "--task"), ({"n": 4}, "--samples"),
     ({"stream": True}, "whole"), ({"temperature": 0}, "--temperature.*temperature=null"),
     ({"max_completion_tokens": 50}, "max_tokens=null"), ({"top_p": 1}, "--top-p"),
     ({"seed": 7}, "--seed"), ({"max_tokens": 100}, "--max-tokens.*max_tokens=null")],
)  # fmt: skip
def test_no_field_may_belie_the_result(tmp_path: Path, field: dict[str, Any], instead: str) -> None:
    with pytest.raises(UserError, match=f"--request {next(iter(field))} .*{instead}"):
        EndpointClient("http://x/v1", "m", tmp_path / "a.jsonl", fields=field)


def test_the_result_says_what_was_left_to_the_server(tmp_path: Path) -> None:
    settings = {"seed": 1, "temperature": 0.6, "top_p": 0.95, "max_tokens": 99}
    with FakeEndpoint(right) as fake:
        for fields, sampling in (
            ({"effort": "low"}, settings),
            ({"seed": None, "temperature": None}, settings | {"seed": None, "temperature": None}),
            ({"max_tokens": None}, settings | {"max_tokens": None}),
            ({"max_tokens": None, "max_completion_tokens": 50}, settings | {"max_tokens": 50}),
        ):
            assert evaluated(fake, tmp_path / "a.jsonl", fields=fields).sampling == sampling


@pytest.mark.parametrize(
    "content",
    ["notes", "notes\n", '{"a": 1}\n', '{"base_url": 3, "reply": {}}\n', "[]\n",
     json.dumps({"base_url": "", "sample": 0, "request": {}, "seconds": "soon", "reply": {
         "text": "", "finish_reason": "stop", "prompt_tokens": 1, "tokens": 1, "reasoning_tokens": 0}}) + "\n"],
)  # fmt: skip
def test_a_foreign_file_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with FakeEndpoint(right) as fake:
        with pytest.raises(UserError, match=r"notes\.txt.* --answers"):
            evaluated(fake, path)
        assert fake.requests == []
    assert path.read_text() == content


def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with FakeEndpoint(right) as fake, AnswerLog.opened(path, fake.base_url):
        with pytest.raises(UserError, match="another process"):
            evaluated(fake, path)
        assert fake.requests == []


@pytest.mark.parametrize(
    ("base_url", "options"),
    [
        ("localhost:8000", {}), ("ftp://x/v1", {}), ("http:///v1", {}), ("http://[::1/v1", {}),
        ("http://localhost:abc/v1", {}), ("http://localhost:99999", {}), ("http://local host/v1", {}),
        ("http://localhost/v 1", {}), ("http://localhost/v1\n", {}), ("http://杭州/v1", {}), ("http://:80/v1", {}),
        ("http://localhost/v1?key=1", {}), ("http://localhost/v1#x", {}),
        *[("http://x", {"timeout": seconds}) for seconds in (0, -1, math.nan, math.inf, 1e300)],
        ("http://x", {"concurrency": 0}), ("http://x", {"retries": -1}),
    ],
)  # fmt: skip
def test_what_cannot_be_an_endpoint_is_refused(tmp_path: Path, base_url: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        EndpointClient(base_url, "m", tmp_path / "a.jsonl", **options)


def test_a_key_in_the_address_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        EndpointClient("http://me:hidden@x/v1", "m", tmp_path / "a.jsonl")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("key", ["secret\n", "sec\rret", "sécret", "secret龙", "secret\0"])
def test_a_key_that_no_header_holds_is_refused_and_not_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match="OPENAI_API_KEY") as caught:
        EndpointClient("http://x/v1", "m", tmp_path / "a.jsonl", key=key)
    assert "sec" not in str(caught.value).replace("second", "")


def test_seconds_are_those_of_all_that_was_asked_for(tmp_path: Path) -> None:
    def respond(request: dict[str, Any], attempt: int) -> Response:
        time.sleep(0.05)
        return right(request)

    path = tmp_path / "a.jsonl"
    with FakeEndpoint(respond) as fake:
        began = time.perf_counter()
        evaluated(fake, path, EvalConfig(2, 2), concurrency=1)
        evaluated(fake, path, EvalConfig(2, 4), concurrency=4)
        taken = time.perf_counter() - began
        again = evaluated(fake, path, EvalConfig(2, 4))
        assert len(fake.requests) == 8
    assert 0.25 <= again.seconds <= taken + 0.2, "not the sum over requests at once, nor nothing"
    assert evaluated(fake, path, EvalConfig(2, 1)).seconds < again.seconds


def test_rows_explain_themselves(tmp_path: Path) -> None:
    with FakeEndpoint(right) as fake:
        evaluated(fake, tmp_path / "a.jsonl", EvalConfig(1, 1))
    (row,) = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert row["base_url"] == fake.base_url
    assert row["request"] == {key: value for key, value in fake.requests[0].items() if key != "path"}
    assert row["reply"]["tokens"] == 10


class Insisting(Doubles):
    """Asks again, twice."""

    max_turns = 3

    def reply(self, problem: Problem, completion: Completion) -> str | None:
        return f"Sure of {completion.answer}?"


def test_an_endpoint_is_talked_to_turn_by_turn(tmp_path: Path) -> None:
    def respond(request: dict[str, Any], attempt: int) -> Response:
        turn = len(request["messages"]) // 2
        n = number_in(request["messages"][0]["content"])
        content = f"\\boxed{{{2 * n}}}" if turn == 2 else f"guess {turn}"
        return completion(content, reasoning_content=f"{n}+{n}", reasoning_tokens=4)

    with FakeEndpoint(respond) as fake:
        endpoint = EndpointClient(fake.base_url, "m", tmp_path / "a.jsonl", pause=0.001)
        evaluation = measure(endpoint, Insisting(), CONFIG)
        again = measure(endpoint, Insisting(), CONFIG)
    assert len(fake.requests) == 3 * 12 and again.records == evaluation.records
    last = max(fake.requests, key=lambda request: len(request["messages"]))
    assert [message["role"] for message in last["messages"]] == ["user", "assistant"] * 2 + ["user"]
    assert [message["content"] for message in last["messages"]][1:] == [
        "guess 0", "Sure of guess 0?", "guess 1", "Sure of guess 1?",
    ]  # fmt: skip
    assert last["max_tokens"] == 99 - 20, "all turns together"
    assert evaluation.pass_at_1 == 1.0 and evaluation.records[0].lengths == [30] * 3
    assert evaluation.records[0].reasoning_lengths == [12] * 3
    assert [turn["reply"]["content"] for turn in evaluation.examples(1)[0]["earlier"]] == [
        "Sure of guess 0?", "Sure of guess 1?",
    ]  # fmt: skip
    with FakeEndpoint(respond) as fake:
        endpoint = EndpointClient(fake.base_url, "m", tmp_path / "b.jsonl")
        short = measure(endpoint, Insisting(), replace(CONFIG, max_tokens=10))
    assert short.truncated == 1.0 and short.pass_at_1 == 0.0
