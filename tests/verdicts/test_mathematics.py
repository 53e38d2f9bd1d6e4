"""Mathematical answers are compared by rules and computer algebra; the corpus has a decision for each known trap."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import verifiers
from longjing.errors import UserError
from longjing.tasks import Completion, Problem
from longjing.verifiers import mathematics
from longjing.verifiers.equality.units import COUNTED, SCALES, read_unit
from longjing.verifiers.mathematics import Algebra
from longjing.verifiers.pool import VerifierError

CORPUS = [json.loads(line) for line in (Path(__file__).parent / "verdicts.jsonl").read_text("utf-8").splitlines()]
KINDS = sorted({case["kind"] for case in CORPUS} - {"hostile"})
# Ways to write the same number.
DRESSES = (
    "{}", "${}$", "\\text{{{}}}", "{}.", "x = {}", "{:,}", "{}.0", "{}\\text{{ m}}", "**{}**", "\\frac{{{}}}{{1}}",
    "  {} ", "\\({}\\)", "\\left({}\\right)", "\\boxed{{{}}}", "f(2) = {}", "\\text{{Area}} = {}", "{} = x",
    "{} \\text{{ dollars}}", "{}€", "\\mathbf{{{}}}", "{} kilometers per hour", "{}\\,", "{{{}}}", "{}个",
)  # fmt: skip
SETS = ("{}", "\\{{{}\\}}", "\\left\\{{ {} \\right\\}}", "${}$", "x \\in \\{{{}\\}}", "x = {}")


@pytest.fixture(scope="module")
def algebra() -> Algebra:
    pytest.importorskip("math_verify")
    return Algebra()


@pytest.mark.parametrize("kind", KINDS)
def test_the_corpus_is_judged_as_decided(algebra: Algebra, kind: str) -> None:
    cases = [case for case in CORPUS if case["kind"] == kind]
    false = [c for c in cases if algebra.equal(c["gold"], c["answer"]) is not c["ours"]]
    assert not false, [(case["gold"], case["answer"], case["right"]) for case in false]


def test_no_decision_takes_a_wrong_answer_for_right() -> None:
    assert len(CORPUS) > 1000 and len({(case["gold"], case["answer"]) for case in CORPUS}) == len(CORPUS)
    assert not [case for case in CORPUS if case["ours"] is True and not case["right"]]
    differs = [case for case in CORPUS if case["ours"] is False and case["right"]]
    assert [case["gold"] for case in differs] == ["\\sqrt{1/n}"], "its equality needs n > 0, which nobody said"


@pytest.mark.parametrize("case", [c for c in CORPUS if c["kind"] == "hostile"], ids=lambda c: c["answer"][:20])
def test_hostile_answers_are_wrong_in_their_time(case: dict[str, Any]) -> None:
    pytest.importorskip("math_verify")
    hasty = Algebra(seconds=3.0)
    assert hasty.equal("\\sqrt{4}", "\\sqrt{4} + 0"), "the process runs"
    began = time.monotonic()
    assert hasty.judge(case["gold"], case["answer"]).outcome == "wrong"
    assert time.monotonic() - began < 3.0 + 3.0, "its time, and a little for a busy machine"
    began = time.monotonic()
    assert not hasty.equal(case["gold"], case["answer"])
    assert time.monotonic() - began < 1, "known, without waiting again"
    began = time.monotonic()
    assert hasty.equal("\\sqrt{2}", "\\frac{2}{\\sqrt{2}}"), "the next question is answered"
    assert time.monotonic() - began < 3.0, "by a process that didn't start anew"


def test_a_chain_has_no_more_time_than_one_question(algebra: Algebra) -> None:
    hasty = Algebra(seconds=3.0)
    hasty.equal("\\sqrt{4}", "2+0")
    parts = [f"\\sqrt{{{n * n + 7}}} - \\sqrt{{{n * n + 7}}} + \\sqrt[{n + 3}]{{2}}^{{{n + 3}}} + 3" for n in range(59)]
    began = time.monotonic()
    hasty.judge("5", "=".join(parts))
    assert time.monotonic() - began < 6


def test_who_is_to_blame_is_found_out_for_each_gold() -> None:
    pytest.importorskip("math_verify")
    verifier = verifiers.get("math", seconds=3.0)

    def judged(gold: str, answer: str) -> Any:
        completion = Completion.parse(f"so\n</think>\n\n\\boxed{{{answer}}}")
        return verifier.judge(Problem("t", "i", "?", gold, {}, "en"), completion)

    tower = "9^{9^{9^{9}}}"
    late = judged("\\sqrt{2}", tower)
    assert late.outcome == "wrong" and "took over" in late.reason, "better than a wrong answer is none"
    assert judged(tower, "5").outcome == "unjudged", "the gold alone takes too long"
    assert judged(tower, tower).outcome == "correct"
    assert judged("5" * 3000, "5").outcome == "unjudged"
    assert judged("5", "5" * 3000).outcome == "wrong"
    assert judged("5", "\ud800").outcome == "wrong"
    assert judged("5", "(" * 900 + "5" + ")" * 900).outcome == "wrong"


@settings(max_examples=60)
@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_numbers_equal_themselves_in_every_dress_and_no_other(one: int, other: int) -> None:
    pytest.importorskip("math_verify")
    algebra = Algebra()
    for dress in DRESSES:
        assert algebra.equal(str(one), dress.format(one)), dress
        assert algebra.equal(dress.format(one), str(one)), dress
        assert algebra.equal(str(one), dress.format(other)) is (one == other), dress


@settings(max_examples=40)
@given(st.lists(st.integers(-999, 999), min_size=2, max_size=5, unique=True), st.randoms(use_true_random=False))
def test_a_set_is_the_same_in_any_order_and_no_list_with_more_or_less(values: list[int], random: Any) -> None:
    pytest.importorskip("math_verify")
    algebra, gold = Algebra(), ", ".join(map(str, values))
    shuffled = random.sample(values, len(values))
    for dress in SETS:
        assert algebra.equal(gold, dress.format(", ".join(map(str, shuffled)))), dress
    assert algebra.equal(gold, " \\text{ and } ".join(map(str, shuffled)))
    assert algebra.equal(gold, " or ".join(f"x={value}" for value in shuffled))
    assert not algebra.equal(gold, ", ".join(map(str, [*values, values[0]])))
    assert not algebra.equal(gold, ", ".join(map(str, values[1:])))
    point = f"({gold})"
    assert algebra.equal(point, f"\\left({gold}\\right)")
    assert algebra.equal(point, f"({','.join(map(str, shuffled))})") is (shuffled == values)


@settings(max_examples=100)
@given(st.integers(0, 999), st.from_regex(r"[a-z]{4,9}( [a-z]{2,9}){0,3}|[\u4e00-\u9fff]{1,4}", fullmatch=True))
def test_a_word_that_is_no_unit_makes_another_answer_of_a_number(number: int, words: str) -> None:
    pytest.importorskip("math_verify")
    first = words.split()[0]
    if read_unit(words) or words in COUNTED or first in SCALES or words[0] in SCALES:
        return
    for text in (f"{number} {words}", f"{number}\\text{{ {words}}}", f"\\text{{{words}}} {number}"):
        assert not Algebra().equal(str(number), text), text
    assert Algebra().equal(f"{number}\\text{{ {words}}}", str(number)), "but who asks may say what is counted"


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(-99, 99), min_size=2, max_size=2), min_size=2, max_size=2))
def test_a_matrix_is_its_entries_however_rows_are_broken(rows: list[list[int]]) -> None:
    pytest.importorskip("math_verify")

    def written(rows: list[list[int]], kind: str, end: str, between: str) -> str:
        return f"\\begin{{{kind}}}{end.join(between.join(map(str, row)) for row in rows)}\\end{{{kind}}}"

    algebra, gold = Algebra(), written(rows, "pmatrix", " \\\\ ", " & ")
    for kind in ("pmatrix", "bmatrix", "matrix"):
        for end in ("\\\\", "\\\\\n", " \\\\ ", "\\\\[2pt]"):
            assert algebra.equal(gold, written(rows, kind, end, "&"))
            turned = [list(column) for column in zip(*rows, strict=True)]
            assert algebra.equal(gold, written(turned, kind, end, "&")) is (turned == rows)


@settings(max_examples=60)
@given(st.text(alphabet="0123456789+-*/=^_{}()[]\\,.;<>$% xy\n", max_size=25) | st.text(max_size=25))
def test_whatever_is_written_is_judged(text: str) -> None:
    pytest.importorskip("math_verify")
    assert Algebra().equal("12345.678", text) in (True, False)
    try:
        assert Algebra().equal(text, "12345.678") in (True, False)
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
