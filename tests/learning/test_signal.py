"""Whether a model has something to learn from a task: what is solved counts, and form doesn't."""

from collections.abc import Sequence
from itertools import count

import pytest

from longjing.generation.request import Generation
from longjing.learning import difficulty
from longjing.learning.difficulty import Difficulty
from longjing.learning.rollouts import Group
from longjing.problems import Completion, Problem, Verdict

PROBLEM = Problem("x", "1", "?", "1", {}, "en")
RIGHT = Verdict("correct", {"accuracy": 1.0, "format": 1.0}, "")
WRONG = Verdict("wrong", {"accuracy": 0.0, "format": 1.0}, "")
NEAR = Verdict("wrong", {"accuracy": 0.4, "format": 1.0}, "")
FORMLESS = Verdict("wrong", {"accuracy": 0.0, "format": 0.0}, "")
UNJUDGED = Verdict("unjudged", {"accuracy": 0.0, "format": 1.0}, "")


def measured(monkeypatch: pytest.MonkeyPatch, *groups: Sequence[Verdict]) -> Difficulty:
    turn = count()

    def judged(task: object, problem: Problem, sampled: object) -> Group:
        verdicts = list(groups[next(turn)])
        completions = [Completion("", "", True, True, False) for _ in verdicts]
        generations = [Generation([], [], [], "stop", "", None, [], 0, ()) for _ in verdicts]
        return Group(problem, generations, completions, verdicts)

    monkeypatch.setattr(difficulty, "draw_problems", lambda *_: [PROBLEM] * len(groups))
    monkeypatch.setattr(difficulty, "sample_groups", lambda *_, **__: [None] * len(groups))
    monkeypatch.setattr(difficulty, "judge_group", judged)
    return difficulty.measure(None, None, None, len(groups), len(groups[0]), 9, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [FORMLESS, NEAR])
def test_form_and_partial_pay_are_no_signal_where_nothing_is_solved(
    monkeypatch: pytest.MonkeyPatch, other: Verdict
) -> None:
    metrics = measured(monkeypatch, *[[WRONG, other]] * 4)
    assert (metrics.correct, metrics.signal, metrics.form) == (0, 0, 1)
    finding = metrics.finding("base")
    assert finding.status == "failed" and "too hard" in finding.says and "100% differ in format" in finding.says


def test_where_all_is_solved_there_is_nothing_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    untidy = Verdict("correct", {"accuracy": 1.0, "format": 0.0}, "")
    metrics = measured(monkeypatch, *[[RIGHT, untidy]] * 4)
    finding = metrics.finding("base")
    assert metrics.signal == 0 and finding.status == "failed" and "too easy" in finding.says


def test_right_beside_wrong_is_a_signal_and_no_verdict_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = measured(monkeypatch, [RIGHT, WRONG], [RIGHT, UNJUDGED], [WRONG, FORMLESS], [RIGHT, RIGHT])
    assert (metrics.signal, metrics.form) == (0.25, 0.25)
    finding = metrics.finding("base")
    assert finding.status == "ok" and "25% of 4 groups of 2 have a signal" in finding.says
