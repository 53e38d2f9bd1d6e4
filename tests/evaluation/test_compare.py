"""Evaluations side by side."""

import json
from collections.abc import Callable

import pytest
from evaluation_cases import Doubles, good, number_in

from longjing.errors import UserError
from longjing.evaluation import Comparison, Evaluation, Price, Procedure, measure
from longjing.evaluation.respondents import Answer, Answers
from longjing.tasks.base import Completion


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


def measured(right: Callable[[int], bool], problems: int = 8, length: int = 10, **stated) -> Evaluation:
    return measure(Solves(right, length), Doubles(), Procedure(problems, 2), **stated)


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
    assert {name: found.mean for name, found in comparison.differences.items()} == {
        "every": 0.5,
        "none": -0.5,
    }
    (label, value), _ = comparison.difference_rows()
    assert label == "every - odd" and value.startswith("+50.0 points")
    written = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert written["differences"]["every"]["low"] < 0.5 < written["differences"]["every"]["high"]
    assert written["evaluations"]["none"]["tokens_per_solved"] is None


def test_one_alone_or_other_problems_are_refused():
    some = measured(lambda n: True)
    with pytest.raises(UserError, match="two"):
        Comparison.of({"some": some})
    with pytest.raises(UserError, match="differ in their problems"):
        Comparison.of({"some": some, "fewer": measured(lambda n: True, problems=7)})
