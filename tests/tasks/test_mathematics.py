"""Mathematical answers are compared by rules and computer algebra; the corpus has a decision for each known trap."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.tasks.verifiers import mathematics
from longjing.tasks.verifiers.mathematics import Algebra
from longjing.tasks.verifiers.pool import VerifierError

CORPUS = [
    json.loads(line) for line in (Path(__file__).parent / "verdicts.jsonl").read_text("utf-8").splitlines()
]

GENTLE = [case for case in CORPUS if case["kind"] != "hostile"]
HOSTILE = [case for case in CORPUS if case["kind"] == "hostile"]
DRESSES = (
    "{}", "${}$", "\\text{{{}}}", "{}.", "x = {}", "{:,}", "{}.0", "{}\\text{{ m}}", "**{}**", "\\frac{{{}}}{{1}}",
)  # fmt: skip


@pytest.fixture(scope="module")
def algebra() -> Algebra:
    pytest.importorskip("math_verify")
    return Algebra()


@pytest.mark.parametrize(
    "case", [c for c in CORPUS if c["kind"] != "hostile"], ids=lambda c: f"{c['gold']}={c['answer']}"
)
def test_the_corpus_is_judged_as_decided(algebra: Algebra, case: dict[str, Any]) -> None:
    assert algebra.equal(case["gold"], case["answer"]) is case["ours"]


def test_no_decision_takes_a_wrong_answer_for_right() -> None:
    assert len(CORPUS) > 150 and len({(case["gold"], case["answer"]) for case in CORPUS}) == len(CORPUS)
    assert not [case for case in CORPUS if case["ours"] is True and not case["right"]]
    differs = [case for case in CORPUS if case["ours"] is False and case["right"]]
    assert [case["gold"] for case in differs] == ["\\sqrt{1/n}"], (
        "its equality needs n > 0, which nobody said"
    )


@pytest.mark.parametrize(
    "case", [c for c in CORPUS if c["kind"] == "hostile"], ids=lambda c: c["answer"][:20]
)
def test_hostile_answers_cost_bounded_time_and_are_never_right(case: dict[str, Any]) -> None:
    pytest.importorskip("math_verify")
    hasty = Algebra(seconds=4.0)  # a busy machine takes a while to start the process
    assert hasty.equal("\\sqrt{4}", "\\sqrt{4} + 0"), "the process runs"
    began = time.monotonic()
    try:
        assert not hasty.equal(case["gold"], case["answer"])
    except VerifierError as error:
        assert case["ours"] == "unjudged" and "over 4 s" in str(error)
    assert time.monotonic() - began < 20
    began = time.monotonic()
    with contextlib.suppress(VerifierError):
        assert not hasty.equal(case["gold"], case["answer"])
    assert time.monotonic() - began < 2, "known, without waiting again"
    assert hasty.equal("\\sqrt{2}", "\\frac{2}{\\sqrt{2}}"), "the next question is answered"


@settings(max_examples=150)
@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_numbers_equal_themselves_in_every_dress_and_no_other(one: int, other: int) -> None:
    pytest.importorskip("math_verify")
    algebra = Algebra()
    for dress in DRESSES:
        assert algebra.equal(str(one), dress.format(one))
        assert algebra.equal(str(one), dress.format(other)) is (one == other)


@settings(max_examples=60)
@given(st.text(alphabet="0123456789+-*/=^_{}()[]\\,.;<>$% xy\n", max_size=25) | st.text(max_size=25))
def test_whatever_is_written_is_judged(text: str) -> None:
    pytest.importorskip("math_verify")
    try:
        assert Algebra().equal("12345.678", text) in (True, False)
    except VerifierError as error:
        assert str(error)


def test_small_integers_in_one_box_are_no_answer(algebra: Algebra) -> None:
    for gold in ("3", "\\sqrt{9}", "\\frac{6}{2}"):
        for joint in (",", ", ", " or ", " ", ";", "\\text{ or }", "=", " \\to ", "\\cup", "/"):
            listed = joint.join(map(str, range(8)))
            assert not algebra.equal(gold, listed), listed


def test_without_math_verify_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "_installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'longjing\[eval\]'"):
        Algebra()
