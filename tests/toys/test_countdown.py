"""Countdown: the solver against a plain search, the generator's rules, the judge."""

from fractions import Fraction
from itertools import islice, permutations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems.expression import ExpressionError, parse_expression
from longjing.tasks import Completion, Problem
from longjing.toys.countdown.task import moves, solve_countdown

TASK = tasks.get("countdown", difficulty=3)


def judged(numbers: list[int], target: int, answer: str) -> bool:
    problem = Problem("countdown", "", "", "", {"numbers": numbers, "target": target}, "en")
    return TASK.judge(problem, Completion.parse(f"so</think>\\boxed{{{answer}}}")).outcome == "correct"


def reachable(numbers: list[int]) -> set[int]:
    """The oracle: every value by combining any two numbers until one is left."""
    if len(numbers) == 1:
        return set(numbers)
    values: set[int] = set()
    for i, a in enumerate(numbers):
        for j, b in enumerate(numbers):
            if i == j:
                continue
            rest = [n for k, n in enumerate(numbers) if k not in (i, j)]
            results = {a + b, a * b}
            if a >= b:
                results.add(a - b)
            if b and a % b == 0:
                results.add(a // b)
            for result in results:
                values |= reachable([*rest, result])
    return values


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
@example([7, 7, 5, 44])  # 5 = 5+44*(7-7) only
def test_the_solver_finds_just_what_can_be_reached(numbers: list[int]) -> None:
    targets = reachable(numbers)
    for target in range(1, 60):
        solution = solve_countdown(numbers, target)
        assert (solution is not None) == (target in targets)
        if solution is not None:
            read = parse_expression(solution)
            assert read.value == target and sorted(read.literals) == sorted(numbers)
            assert all(value >= 0 and value.denominator == 1 for value in read.intermediates)
            assert judged(numbers, target, solution)


def brute_parentheses(numbers: list[int], target: int) -> int:
    """The fewest parentheses over all orders, operators and ways to wrap three numbers."""
    best = 9
    for (a, b, c), (p, q) in product(permutations(numbers), product("+-*/", repeat=2)):
        for text in (f"{a}{p}{b}{q}{c}", f"({a}{p}{b}){q}{c}", f"{a}{p}({b}{q}{c})"):
            try:
                read = parse_expression(text)
            except ExpressionError:
                continue
            if read.value == target and all(v >= 0 and v.denominator == 1 for v in read.intermediates):
                best = min(best, text.count("("))
    return best


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=3, max_size=3), st.integers(1, 100))
def test_no_solution_has_fewer_parentheses(numbers: list[int], target: int) -> None:
    solution = solve_countdown(numbers, target)
    if solution is not None:
        assert solution.count("(") == brute_parentheses(numbers, target)


@given(st.integers(0, 100), st.integers(0, 100))
def test_moves_are_legal_and_complete(a: int, b: int) -> None:
    legal = moves(a, b)
    for left, operator, right, result in legal:
        assert {left, right} == {a, b} and left >= right
        if (operator, right) != ("/", 0):
            value = Fraction(left, right) if operator == "/" else parse_expression(f"{left}{operator}{right}").value
            assert value == result >= 0
    assert [move[1] for move in legal][:3] == ["+", "-", "*"]
    assert (len(legal) == 4) == (min(a, b) > 0 and max(a, b) % min(a, b) == 0)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("31-6+20", True),
        ("(31 - 6) + 20", True),
        ("20+31-6=45", True),
        ("20 + 31 - 6 = 45", True),
        ("（31−6）＋20＝45", True),
        ("-6+31+20", True),
        ("31-6+20=46", False),
        ("31-6+20=45=45", False),
        ("31-6+20=40+5", False),
        ("45=31-6+20", False),
        ("31-6+20=", False),
        ("=45", False),
        ("45", False),
        ("31+20-6+6-6", False),
        ("31+14", False),
        ("31-6+20+0", False),
        ("31-6+2 0", False),
        ("31+20*6", False),
        ("", False),
        ("31-6+20.", False),
        ("x=31-6+20", False),
    ],
)
def test_what_counts_as_an_answer(answer: str, right: bool) -> None:
    assert judged([31, 6, 20], 45, answer) == right


def test_fractions_on_the_way_count() -> None:
    assert judged([1, 5, 5, 5], 24, "5*(5-1/5)")
    assert solve_countdown([1, 5, 5, 5], 24) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.data())
def test_a_changed_answer_is_wrong(seed: int, data: st.DataObject) -> None:
    """Change one number or use one more: the multiset no longer fits, whatever the value."""
    (problem,) = islice(TASK.problems("train", seed), 1)
    numbers, target = problem.data["numbers"], problem.data["target"]
    changed = data.draw(st.sampled_from(numbers))
    other = data.draw(st.integers(1, 99).filter(lambda n: n != changed))
    assert judged(numbers, target, problem.answer)
    assert not judged(numbers, target, f"{problem.answer}+{other}-{other}")
    assert not judged(numbers, target, f"({problem.answer})*1")
    assert not judged([other if n == changed else n for n in numbers], target, problem.answer)
    assert not judged(numbers, target + 1, problem.answer)


@pytest.mark.parametrize("difficulty", range(1, 6))
def test_problems_obey_the_settings(difficulty: int) -> None:
    task = tasks.get("countdown", difficulty=difficulty)
    options = task.settings
    for problem in islice(task.problems("train", 0), 100):
        numbers, target = problem.data["numbers"], problem.data["target"]
        assert len(numbers) == options["numbers"] and min(numbers) >= 1 and max(numbers) <= options["largest"]
        assert options["smallest_target"] <= target <= options["largest_target"]
        for n in numbers:
            assert str(n) in problem.prompt
        assert str(target) in problem.prompt


def test_permutations_share_a_split() -> None:
    """The identity of a problem is the set of its numbers and its target, not their order."""
    seen: dict[tuple[tuple[int, ...], int], str] = {}
    orders = 0
    for problem in islice(tasks.get("countdown", difficulty=1).problems("train", 0), 2000):
        key = (tuple(sorted(problem.data["numbers"])), problem.data["target"])
        orders += key in seen
        assert seen.setdefault(key, problem.id) == problem.id
    assert orders and len(set(seen.values())) == len(seen)
