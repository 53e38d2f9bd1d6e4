"""Stream of Search is judged by that paper's own rule, and draws the problems that it always drew."""

import json
from fractions import Fraction
from itertools import islice
from random import Random

import pytest
from expression_cases import Tree, fully_wrapped, literals, written
from hypothesis import assume, given
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems.expression import parse_expression
from longjing.tasks import Completion, Problem

OWN = tasks.get("stream-of-search")
LOOSE = tasks.get("stream-of-search", intermediate="any")
COUNTDOWN = tasks.get("countdown")

trees = st.recursive(st.integers(1, 30), lambda sub: st.tuples(sub, st.sampled_from("+-*/"), sub), max_leaves=4)


def right(task: tasks.Task, numbers: list[int], target: int, answer: str) -> bool:
    problem = Problem(task.name, "", "", "", {"numbers": numbers, "target": target}, "en")
    return task.judge(problem, Completion.parse(f"so</think>\\boxed{{{answer}}}")).outcome == "correct"


def natural(tree: Tree) -> int | None:
    """The oracle: the paper's operations on non-negative integers; None where one of them isn't allowed."""
    if isinstance(tree, int):
        return tree
    left, operator, other = tree
    a, b = natural(left), natural(other)
    if a is None or b is None:
        return None
    match operator:
        case "+":
            return a + b
        case "*":
            return a * b
        case "-":
            return a - b if a >= b else None
    return a // b if b and a % b == 0 else None


def value(tree: Tree) -> Fraction:
    return Fraction(tree) if isinstance(tree, int) else _operate(tree[1], value(tree[0]), value(tree[2]))


def _operate(operator: str, a: Fraction, b: Fraction) -> Fraction:
    return a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b


@given(trees)
def test_what_is_right_by_either_rule_is_what_the_oracle_says(tree: Tree) -> None:
    try:
        target = value(tree)
    except ZeroDivisionError:
        assume(False)
    assume(target > 0 and target.denominator == 1)
    for text in (written(tree).text, fully_wrapped(tree), f"{written(tree).text}={target}"):
        assert right(OWN, literals(tree), int(target), text) == (natural(tree) == target)
        assert right(LOOSE, literals(tree), int(target), text)
        assert right(COUNTDOWN, literals(tree), int(target), text)


@pytest.mark.parametrize(
    ("answer", "own"),
    [
        ("3-5+4+10", False),  # left to right, through -2
        ("3+4-5+10", True),
        ("10+4-5+3", True),
        ("10-(5-3-4)", False),
        ("-5+3+4+10", False),  # a sign makes a negative number
        ("10+4-(5-3)", True),
        ("\\frac{10}{5}*3*4", True),
        ("3/5*10*4", False),
        ("3*10/5*4", True),
        ("10*4*3/5", True),
        ("10*(3/5)*4", False),
        ("(5-5)*3+10", True),  # zero is natural
        ("-(3-3)+5", True),
        ("5+(-1)*4", False),
    ],
)
def test_an_expression_counts_as_it_is_written(answer: str, own: bool) -> None:
    read = parse_expression(answer)
    numbers, target = [int(number) for number in read.literals], int(read.value)
    assert right(LOOSE, numbers, target, answer)
    assert right(OWN, numbers, target, answer) == own


def test_the_rule_chooses_no_problem() -> None:
    """Runs from before `intermediate` go on with their problems: the draw is by the settings that there were."""
    before = {"difficulty": 2, "language": "mixed", "numbers": 4, "largest": 99}
    before |= {"smallest_target": 10, "largest_target": 100}
    for split in ("train", "test"):
        own = list(islice(OWN.problems(split, 7), 20))
        assert own == list(islice(LOOSE.problems(split, 7), 20))
        random = Random(json.dumps(["stream-of-search", before, split, 7], sort_keys=True))
        while True:
            data = OWN.draw(random)  # type: ignore[attr-defined]
            if tasks.split_of(OWN.split_key(data)) == split and OWN.answer(data):  # type: ignore[attr-defined]
                break
        assert own[0].data == data.model_dump()
        for each in own:
            assert right(OWN, each.data["numbers"], each.data["target"], each.answer)
