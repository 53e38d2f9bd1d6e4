"""What holds for every verifier, and what each of them takes for right."""

import gc
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import verifiers
from longjing.errors import UserError
from longjing.tasks import Completion, Problem
from longjing.verifiers import Rubric
from longjing.verifiers.pool import AnswerError, Pool, VerifierError

REQUIRED: dict[str, dict[str, Any]] = {
    "length": {"most": 100}, "judge": {"base_url": "http://127.0.0.1:1/v1", "model": "m", "attempts": 1},
    "regex": {"pattern": "[a-z]+"},
}  # fmt: skip


HOSTILE = (
    "", "x" * 10**5, "\\boxed{", "\\boxed{}", "{" * 10**4, "\x00", "[" * 10**5, "\\boxed{" + "9" * 10**4 + "}",
)  # fmt: skip


def problem(answer: str = "42", **data: Any) -> Problem:
    return Problem("t", "id", "What?", answer, data, "en")


def completion_of(answer: str, truncated: bool = False, reasoning: str = "some words of thought") -> Completion:
    return Completion.parse(f"{reasoning}\n</think>\n\n{answer}", truncated=truncated)


def outcome(verifier: str, gold: str, answer: str, **how: Any) -> str:
    """The outcome for what stands in the box, or for the whole answer where `final` is that."""
    written = answer if how.get("final") == "text" or verifier == "json" else f"\\boxed{{{answer}}}"
    return verifiers.get(verifier, **how).judge(problem(gold), completion_of(written)).outcome


@pytest.mark.parametrize("name", verifiers.names())
def test_every_verifier_judges_whatever_is_written(name: str, tmp_path: Path) -> None:
    given_settings = REQUIRED.get(name, {}) | ({"cache": str(tmp_path / "c")} if name == "judge" else {})
    verifier = verifiers.get(name, **given_settings)
    for answer in HOSTILE:
        judgement = verifier.judge(problem(), completion_of(answer))
        assert 0 <= judgement.score <= 1 and judgement.reason
        assert judgement == verifier.judge(problem(), completion_of(answer)), "the same twice"
    if verifier.decides:
        assert verifier.judge(problem(), completion_of("\\boxed{42}", truncated=True)).outcome == "wrong"
        assert verifier.judge(problem(), completion_of("")).outcome == "wrong"


@pytest.mark.parametrize(
    ("verifier", "gold", "right", "wrong"),
    [
        ("exact", "a b", ["a b", " a   b "], ["A b", "ab", "a b c", ""]),
        ("number", "1234.5", ["1234.5", "1,234.5", "1{,}234.50", "\\(1234.5\\)", "１２３４.5", "1.2345e3", "$1234.5$",
          "2469/2"],
         ["1234", "1.234,5", "1234.5 or 3", "1234.50001", "x", "1e9999", "nan", "inf"]),
        ("number", "0.5", ["1/2", "0.50", "\\frac{1}{2}", ".5", "+.5", "\\frac12", "\\tfrac{1}{2}", ".5."],
         ["2/4", "50%", "..5", "0", "-.5", "5.", "."]),
        ("number", "29", ["\\$29.00", "$29", "$29$", "29.", "+29"], ["\\$28", "29 apples", "29%", "2 9", "\\$29\\%"]),
        ("number", "-3/4", ["\\frac{-3}{4}", "-\\frac{3}{4}", "\\frac{3}{-4}", "-.75", "\\dfrac{-3}{4}"],
         ["\\frac{3}{4}", "\\frac{-3}{-4}", "-\\frac{-3}{4}", "\\frac{-4}{3}"]),
        ("number", "32349", ["32,\\!349", "32{,}349", "\\$32,349.00"], ["3,2349", "32,34"]),
        ("number", "-3", ["-3", "−3", "-3.0"], ["3", "--3"]),
        ("expression", "7", ["3+4", "7", "14/2", "(1+2)*2+1"], ["3+5", "__import__('os')", "7;7", "10**10**8"]),
        ("multiple-choice", "B",
         ["B", "b", "(B)", "\\text{B}", "B.", "**B**", "Answer: B", "选B", "The answer is (B)", "B. 12", "(B) 12",
          "B: A polygenic risk score", "\\textbf{(B)}\\ 12", "B) the second", "B. 3 or 4", "B、 是的", "B：12",
          "$B$",
          "\\text{B. } 12", "[B]", "B. No", "B - 12", "答案是B", "the correct answer is B", "option B: 5",
          "B. Vitamin C", "B. No, because 12 is even", "B. Wrong, Not wrong", "B. Incorrect", "B. 不变",
          "B. 错误", "故选B", "应选：B"],
         ["A", "A or B", "AB", "Bravo", "A, B, C, D", "E", "", "not B", "B or C", "B or C: both", "B is wrong",
          "B. or C", "B. C", "B: A, C", "A. x B. y C. z", "B. 12, C. 13", "B: is wrong", "B：不对",
          "(B) or (C)", "(B), (C)",
          "B/C",
          "B and C", "Be careful", "the answer is not B", "B不对", "(A) 1 (B) 2", "B: isn't right", "B: A) 5",
          "B but not C", "the" + " " * 190 + "!"]),
        ("multiple-choice", "A", ["A", "A. polygenic"], ["A polygenic risk score", "A or B", "a or b"]),
        ("json", '{"a": [1, 2], "b": null}', ['{"b": null, "a": [1.0, 2]}', '```json\n{"a": [1,2],"b":null}\n```'],
         ['{"a": [2, 1], "b": null}', '{"a": [1, 2]}', "{}", '{"a": [1, 2], "b": null} {}', '{"a":[true,2],"b":null}',
          '{"a": [1, 2], "a": [1, 2], "b": null}']),
        ("regex", "[ab]+c", ["abc", "ac"], ["abcd", "xabc", ""]),
    ],
)  # fmt: skip
def test_what_each_takes_for_right(verifier: str, gold: str, right: list[str], wrong: list[str]) -> None:
    for answer in right:
        assert outcome(verifier, gold, answer) == "correct", answer
    for answer in wrong:
        assert outcome(verifier, gold, answer) == "wrong", answer


def test_a_gold_answer_that_cannot_be_read_is_nobodys_fault_but_the_problems() -> None:
    for name in ("number", "expression", "multiple-choice", "json", "regex"):
        assert outcome(name, "(((", "3" if name != "multiple-choice" else "A") == "unjudged", name


@given(st.fractions(-1000, 1000, max_denominator=50), st.floats(0, 10), st.floats(-20, 20))
def test_the_tolerance_of_a_number_is_what_it_says(gold: Any, tolerance: float, off: float) -> None:
    from fractions import Fraction

    near = round(float(gold) + off, 6)
    allowed = abs(Fraction(str(near)) - gold) <= Fraction(tolerance)
    answer = f"{near:.6f}"
    assert (outcome("number", str(gold), answer, absolute=tolerance) == "correct") is allowed


def test_a_schema_is_kept_to() -> None:
    pytest.importorskip("jsonschema_rs")
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    for answer, expected in (('{"n": 3}', "correct"), ('{"n": 2}', "wrong"), ("{}", "wrong"), ('{"n": NaN}', "wrong")):
        assert outcome("json", "", answer, schema=schema) == expected
    with pytest.raises(UserError, match="no JSON Schema"):
        verifiers.get("json", schema={"type": "nothing"})


def test_backtracking_without_end_is_the_texts_fault_and_the_next_is_judged() -> None:
    began = time.monotonic()
    assert outcome("regex", "", "a" * 40 + "b", pattern="(a+)+c", seconds=0.5) == "wrong"
    assert time.monotonic() - began < 5
    assert outcome("regex", "", "aac", pattern="(a+)+c", seconds=0.5) == "correct"


def test_forms_and_lengths() -> None:
    good = completion_of("\\boxed{1}")
    assert verifiers.get("format").judge(problem(), good).score == 1
    assert verifiers.get("format").judge(problem(), completion_of("1")).score == 0
    language = verifiers.get("language")
    assert language.judge(problem(), completion_of("\\boxed{1}", reasoning="我们来想一想这个问题")).outcome == "wrong"
    assert language.judge(problem(), good).outcome == "correct"
    length = verifiers.get("length", least=10, most=20, of="reasoning")
    scores = [
        length.judge(problem(), completion_of("", reasoning="x" * many)).score for many in (5, 10, 20, 30, 40, 100)
    ]
    assert scores == [0.5, 1, 1, 0.5, 0, 0]


def test_rewards_compose_by_name_and_weight() -> None:
    rubric = Rubric({"number": 1.0, "short": {"verifier": "length", "most": 40, "weight": 0.5}, "format": 0})
    both = rubric.judge(problem(), completion_of("\\boxed{42}", reasoning="short"))
    assert both.outcome == "correct"
    assert both.rewards == {"number": 1, "short": 1, "accuracy": 1.5, "format": 1}
    long = rubric.judge(problem(), completion_of("\\boxed{42}", reasoning="x" * 90))
    assert long.outcome == "correct" and long.rewards["accuracy"] == 1, "a length decides nothing"
    wrong = rubric.judge(problem(), completion_of("\\boxed{41}", reasoning="short"))
    assert wrong.outcome == "wrong" and wrong.rewards["accuracy"] == 0.5
    failed = rubric.judge(problem("?"), completion_of("\\boxed{42}"))
    assert failed.outcome == "unjudged" and failed.rewards["accuracy"] == 0
    assert Rubric({"length": {"most": 5}}).judge(problem(), completion_of("long answer")).outcome == "wrong"


@pytest.mark.parametrize(
    ("given_rubric", "said_of_it"),
    [
        ("maht", "did you mean 'math'"), ({"number": "much"}, "weight"), ({"number": {"relativ": 1}}, "relative"),
        ({}, "no verifier"), ({"length": 1.0}, "'most' is missing"), ({"regex": {"pattern": "("}}, "no regular"),
        ({"number": float("nan")}, "weight"), ({"judge": {"base_url": "x", "model": "m"}}, "base_url"),
        ({"multiple-choice": {"choices": "abc"}}, "choices"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_refused_by_name(given_rubric: Any, said_of_it: str) -> None:
    with pytest.raises(UserError, match=said_of_it):
        Rubric(given_rubric)


def test_a_process_that_falls_over_says_so_and_gets_up() -> None:
    pool = Pool("regex", 1, 5.0, 512)
    assert pool.ask("a", "a", True) is True
    (worker,) = pool._alive
    os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    with pytest.raises(VerifierError, match="failed"):
        pool.ask("a", "b", True)
    assert pool.ask("a", "c", True) is False
    del worker
    (worker,) = pool._alive
    process = worker.process
    del pool, worker
    gc.collect()
    assert process.poll() is not None, "the process goes with its pool"


def test_the_answer_is_to_blame_for_what_does_not_fail_without_it() -> None:
    pool = Pool("regex", 1, 1.0, 512)
    endless = "a" * 40 + "b"
    with pytest.raises(AnswerError, match="took over"):
        pool.ask("(a+)+c", endless, True, baseline=("(a+)+c", "", True))
    with pytest.raises(VerifierError, match="took over"):
        pool.ask("(a+)+c", endless + "b", True)
    with pytest.raises(VerifierError, match="no regular expression"):
        pool.ask("(((", "a", True, baseline=("(((", "", True))
    began = time.monotonic()
    with pytest.raises(VerifierError, match="took over 0.5 s"):
        pool.ask("(a+)+c", "ac", True, baseline=("(a+)+c", endless + "bb", True))
    with pytest.raises(VerifierError, match="took over 0.5 s"):
        pool.ask("(a+)+c", "aac", True, baseline=("(a+)+c", endless + "bb", True))
    assert time.monotonic() - began < 2, "a gold that fails costs its time once"
    assert pool.ask("(a+)+c", "aac", True, baseline=("(a+)+c", "", True)) is True
    assert len(pool._alive) == 1, "and none of it a new process"


def test_a_question_that_was_given_up_is_not_answered_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool("regex", 1, 30.0, 512)
    assert pool.ask("x", "y", True) is False
    (worker,) = pool._alive

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.ask("b", "b", True)
    assert pool.ask("c", "d", True) is False


@settings(max_examples=5)
@given(st.lists(st.tuples(st.text("ab", max_size=3), st.text("ab", max_size=3)), min_size=1, max_size=30))
def test_threads_get_the_answers_to_their_own_questions(pairs: list[tuple[str, str]]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from longjing.verifiers.pool import shared

    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda pair: shared("regex", 5.0, 512).ask(*pair, True), pairs))
    assert verdicts == [pattern == text for pattern, text in pairs]


class _Says(BaseHTTPRequestHandler):
    """An endpoint that finds `good` answers correct, talks nonsense about `odd` ones and breaks at `bad` ones."""

    prompts: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = request["messages"][0]["content"]
        self.prompts.append(prompt)
        answer = prompt.split("<answer>\n")[1]
        text = "hm" if "odd" in answer else f"So.\nVERDICT: {'correct' if 'good' in answer else 'wrong'}"
        body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
        self.send_response(500 if "bad" in answer else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    _Says.prompts.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Says)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_a_judge_is_asked_once_and_its_failures_are_nobodys(endpoint: str, tmp_path: Path) -> None:
    how = {"base_url": endpoint, "model": "m", "attempts": 1, "cache": str(tmp_path / "verdicts.jsonl")}

    def outcomes() -> list[str]:
        judge = verifiers.get("judge", **how)
        return [
            judge.judge(problem("gold"), completion_of(text)).outcome
            for text in ("good", "poor", "odd", "bad", "{gold}")
        ]

    assert outcomes() == ["correct", "wrong", "unjudged", "unjudged", "wrong"]
    assert "{gold}" in _Says.prompts[-1] and _Says.prompts[-1].count("gold") == 2, "no gap in an answer is filled"
    before = len(_Says.prompts)
    with (tmp_path / "verdicts.jsonl").open("a") as file:
        file.write('{"asked": "cut o')
    assert outcomes() == ["correct", "wrong", "unjudged", "unjudged", "wrong"]
    assert len(_Says.prompts) == before + 2, "verdicts are kept, failures are not"


def test_a_judge_that_is_not_there_leaves_it_unjudged(tmp_path: Path) -> None:
    judge = verifiers.get("judge", **REQUIRED["judge"], cache=str(tmp_path / "c"))
    judgement = judge.judge(problem(), completion_of("42"))
    assert judgement.outcome == "unjudged" and "failed" in judgement.reason
