"""Evaluations side by side."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from evaluation_cases import Doubles, good, number_in

from longjing.errors import UserError
from longjing.evaluation import Comparison, EvalConfig, Evaluation, Price, measure
from longjing.evaluation.compare import compare_majorities
from longjing.evaluation.model_client import Answer, Answers
from longjing.problems import Completion


class Solves:
    """Solves the numbers that `right` names, in answers of `length` tokens."""

    def __init__(self, right: Callable[[int], bool], length: int = 10) -> None:
        self.right, self.length = right, length

    def answer(self, questions, on_progress=None) -> Answers:
        groups = []
        for question in questions:
            n = number_in(question.messages[-1]["content"])
            text = good(n) if self.right(n) else "x</think>\\boxed{-1}"
            groups.append([Answer(text, Completion.parse(text), self.length, 1) for _ in question.samplings])
        return Answers(groups, 5 * len(questions))


def measured(
    right: Callable[[int], bool], problems: int = 8, length: int = 10, samples: int = 2, **stated
) -> Evaluation:
    return measure(Solves(right, length), Doubles(), EvalConfig(problems, samples), **stated)


def test_a_comparison_has_a_row_for_each_and_a_difference_from_the_first():
    odd = measured(lambda n: n % 2 == 1, price=Price(written=1e6))
    every = measured(lambda n: True, length=30)
    none = measured(lambda n: False)
    comparison = Comparison.of({"odd": odd, "every": every, "none": none})
    header, *rows = comparison.table()
    assert header == ("", "odd", "every", "none")
    table = {label: dict(zip(header[1:], values, strict=True)) for label, *values in rows}
    assert [value[:6] for value in table["pass@1"].values()] == ["50.0% ", "100.0%", "0.0%  "]
    assert table["tokens per solved problem"] == {"odd": "20", "every": "30", "none": "inf"}
    assert table["cost per solved problem"] == {
        "odd": "$20 at $1e+06 per million tokens written", "every": "-", "none": "-",
    }  # fmt: skip
    assert "temperature 1.0" in table["sampling"]["none"]
    assert {name: interval.mean for name, interval in comparison.differences.items()} == {"every": 0.5, "none": -0.5}
    rows = dict(comparison.difference_rows())
    assert [*rows] == ["every - odd", "none - odd", "every - odd, maj@2", "none - odd, maj@2"]
    assert all(value.startswith("+50.0 points") for label, value in rows.items() if "every" in label)
    written = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert written["differences"]["every"]["low"] < 0.5 < written["differences"]["every"]["high"]
    assert written["differences_maj_at_k"]["every"] == written["differences"]["every"], "all samples agree"
    assert written["evaluations"]["none"]["tokens_per_solved"] is None


def test_majorities_of_other_sizes_are_not_compared():
    two, one = measured(lambda n: True), measured(lambda n: False, samples=1)
    assert compare_majorities(two, one) is None and compare_majorities(one, one) is None
    assert compare_majorities(two, two).mean == 0
    assert [label for label, _ in Comparison.of({"two": two, "one": one}).difference_rows()] == ["one - two"]


def test_other_right_answers_are_refused_and_missing_ones_are_not():
    some = measured(lambda n: True)
    changed = [replace(record, gold="9" if record.gold == "6" else record.gold) for record in some.records]
    with pytest.raises(UserError, match="right answers to 1 of their 8 problems .'6' and '9'"):
        Comparison.of({"some": some, "other": replace(some, records=changed)})
    silent = replace(some, records=[replace(record, gold="") for record in some.records])
    assert Comparison.of({"some": some, "silent": silent}).differences["silent"].mean == 0


def test_one_alone_or_other_problems_are_refused():
    some = measured(lambda n: True)
    with pytest.raises(UserError, match="two"):
        Comparison.of({"some": some})
    with pytest.raises(UserError, match="differ in their problems"):
        Comparison.of({"some": some, "fewer": measured(lambda n: True, problems=7)})
