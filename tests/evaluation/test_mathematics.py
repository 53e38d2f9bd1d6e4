"""Mathematical answers are compared by computer algebra, and nothing a model writes can stop the one who asks."""

import gc
import time

import pytest

from longjing.errors import UserError
from longjing.evaluation import mathematics
from longjing.evaluation.mathematics import MathVerifier, VerifierError


@pytest.fixture(scope="module")
def verifier() -> MathVerifier:
    pytest.importorskip("math_verify")
    return MathVerifier()


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("204", "204", True), ("204", "204.0", True), ("33", "033", True), ("204", "205", False),
        ("\\frac{1}{2}", "0.5", True), ("\\frac{14}{3}", "\\dfrac{14}{3}", True), ("\\frac{14}{3}", "4.6", False),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)", True), ("(3, 2)", "(2, 3)", False),
        ("p - q", "-q+p", True), ("p - q", "q - p", False), ("6 - 5i", "-5i+6", True),
        ("3\\sqrt{13}", "\\sqrt{117}", True), ("90^\\circ", "90", True), ("1,000", "1000", True),
        ("x \\in [-2,7]", "[-2,7]", True), ("[-2,7]", "(-2,7)", False), ("\\{1, 2\\}", "\\{2, 1\\}", True),
        ("\\text{Evelyn}", "\\text{Evelyn}", True), ("\\text{Evelyn}", "\\text{Briar}", False),
        ("70", "\\text{I don't know}", False), ("70", "}{", False), ("70", "70 or 71", False),
    ],
)  # fmt: skip
def test_answers_that_say_the_same(verifier: MathVerifier, gold: str, answer: str, equal: bool) -> None:
    assert verifier.equal(gold, answer) is equal


def test_no_answer_takes_forever(verifier: MathVerifier) -> None:
    verifier.equal("1", "1")
    hasty = MathVerifier(seconds=1.5)
    assert hasty.equal("1", "1.0")
    began = time.monotonic()
    with pytest.raises(VerifierError, match="over 1.5 s"):
        hasty.equal("1", "9^{9^{9^{9}}} - 9^{9^{9^{9}}} + 1")
    assert time.monotonic() - began < 8
    began = time.monotonic()
    with pytest.raises(VerifierError, match="over 1.5 s"):
        hasty.equal("1", "9^{9^{9^{9}}} - 9^{9^{9^{9}}} + 1")
    assert time.monotonic() - began < 1, "known, without waiting again"
    assert hasty.equal("\\frac{1}{2}", "0.5"), "the next question is answered"


def test_a_verifier_that_falls_over_says_so_and_gets_up(verifier: MathVerifier) -> None:
    assert verifier.equal("1", "1")
    assert verifier._process is not None
    verifier._process.kill()
    verifier._process.wait()
    with pytest.raises(VerifierError, match="failed"):
        verifier.equal("1", "2")
    assert verifier.equal("1", "3") is False


def test_the_process_goes_with_its_verifier() -> None:
    pytest.importorskip("math_verify")
    passing = MathVerifier()
    assert passing.equal("1", "1")
    process = passing._process
    del passing
    gc.collect()
    assert process is not None and process.poll() is not None


def test_without_math_verify_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'longjing\[eval\]'"):
        MathVerifier()
