"""The corpus beside countdown: arithmetic, equations, word problems and conversation."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems.expression import parse_expression
from longjing.tasks import Completion, Problem
from longjing.toys.arithmetic import corpus as arithmetic
from longjing.toys.arithmetic import solver
from longjing.toys.arithmetic.corpus import evaluate
from longjing.toys.arithmetic.exercises import write_drill, write_practice
from longjing.toys.arithmetic.solver import STYLES, Solver, operate
from longjing.toys.conversation import task as conversation
from longjing.toys.equations import corpus as equations
from longjing.toys.toy import Document
from longjing.toys.word_problems import corpus as word_problems

WRITERS = {
    "arithmetic": arithmetic.write_solution,
    "equations": equations.write_solution,
    "word-problems": word_problems.write_solution,
}
REFLECTION = re.compile(r"Wait|No,|Hmm|等等|不对|嗯")
CASES = [(name, difficulty) for name in WRITERS for difficulty in (1, 2, 3, 4, 5)]


@cache
def written(name: str, difficulty: int) -> list[tuple[Problem, Document, bool]]:
    """Problems, the documents about them, and whether the task judges these correct."""
    task = tasks.get(name, difficulty=difficulty)
    random = Random(7)
    read = []
    for problem in islice(task.problems("train", 3), 1500):
        document = WRITERS[name](problem, random)
        text = f"{document.reasoning}\n</think>\n\n{document.answer}"
        verdict = task.judge(problem, Completion.parse(text))
        assert verdict.rewards["format"] == 1.0, document
        read.append((problem, document, verdict.outcome == "correct"))
    return read


@pytest.mark.parametrize(("name", "difficulty"), CASES)
def test_the_worth_and_the_share_of_each_style(name: str, difficulty: int) -> None:
    count: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for _, document, correct in written(name, difficulty):
        count[document.style] += 1
        right[document.style] += correct
    assert set(count) == set(STYLES)
    share = {style: count[style] / 1500 for style in STYLES}
    accuracy = {style: right[style] / count[style] for style in STYLES}
    assert share == pytest.approx(STYLES, abs=0.05)
    assert 0.08 < accuracy["guess"] < 0.22
    assert 0.62 < accuracy["direct"] < 0.78
    assert accuracy["steps"] > 0.82
    assert accuracy["direct"] < accuracy["steps"] <= accuracy["checked"] + 0.02
    assert accuracy["checked"] > 0.95


@pytest.mark.parametrize(("name", "difficulty"), CASES)
def test_better_styles_cost_more_and_none_is_long(name: str, difficulty: int) -> None:
    lengths = defaultdict(list)
    for _, document, _ in written(name, difficulty):
        lengths[document.style].append(len(document.reasoning))
        assert 0 < len(document.reasoning) < 600
        assert document.reasoning == document.reasoning.strip()
        assert "think>" not in document.reasoning
        assert "\n\n" not in document.reasoning
    mean = {style: sum(counts) / len(counts) for style, counts in lengths.items()}
    assert max(mean["guess"], mean["direct"]) < mean["steps"] < mean["checked"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_solver_who_never_slips_is_always_right(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "SLIPS", dict.fromkeys(STYLES, 0.0))
    for difficulty in (1, 2, 3, 4, 5):
        task = tasks.get(name, difficulty=difficulty)
        for problem in islice(task.problems("train", 1), 300):
            document = WRITERS[name](problem, Random(problem.id))
            assert task.judge(problem, Completion.parse(f"ok</think>{document.answer}")).outcome == "correct"
            assert not REFLECTION.search(document.reasoning)
            for claim in claims(document.reasoning):
                assert true(claim), (claim, document)


@pytest.mark.parametrize("name", WRITERS)
def test_slips_happen_and_checks_mend_them(name: str) -> None:
    slipped = Counter()
    for _, document, correct in written(name, 2):
        if document.style in ("steps", "checked") and not all(map(true, claims(document.reasoning))):
            slipped[document.style] += 1
            if document.style == "checked":
                assert correct
                assert REFLECTION.search(document.reasoning), document
        elif document.style == "steps":
            assert correct, document
    assert slipped["checked"] > 5
    assert slipped["steps"] > 2


@pytest.mark.parametrize("name", WRITERS)
def test_most_reasoning_is_in_the_language_of_the_problem(name: str) -> None:
    ends = [(p, d.reasoning) for p, d, _ in written(name, 2) if d.style in ("guess", "steps")]
    same = sum((problem.language == "zh") == (not reasoning.isascii()) for problem, reasoning in ends)
    assert 0.8 < same / len(ends) < 0.95


@pytest.mark.parametrize("name", WRITERS)
def test_the_style_does_not_depend_on_the_problem(name: str) -> None:
    problems = list(islice(tasks.get(name, difficulty=3).problems("train", 0), 30))
    for seed in range(20):
        assert len({WRITERS[name](problem, Random(seed)).style for problem in problems}) == 1


@given(st.integers(0, 2**32), st.sampled_from(CASES))
@settings(max_examples=40, deadline=None)
def test_the_same_random_state_writes_the_same_document(seed: int, case: tuple[str, int]) -> None:
    name, difficulty = case
    problem = next(tasks.get(name, difficulty=difficulty).problems("train", seed))
    assert WRITERS[name](problem, Random(seed)) == WRITERS[name](problem, Random(seed))
    assert conversation.write_conversation(Random(seed)) == conversation.write_conversation(Random(seed))


@given(st.integers(-9999, 9999), st.sampled_from("+-*/"), st.integers(-9999, 9999), st.integers(0, 99))
@settings(deadline=None)
def test_a_calculation_ends_in_the_value(a: int, operator: str, b: int, seed: int) -> None:
    solver = Solver("en", Random(seed))
    solver.slip = 0.0
    value = solver.calculate(a, operator, b)
    assert value == operate(a, operator, b)
    (line,) = solver.lines
    assert re.split(r"[=, ]+", line)[-1] == str(value)
    if b:
        assert all(map(true, claims(line)))


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_expressions_are_read_as_the_task_reads_them(seed: int) -> None:
    expression = next(tasks.get("arithmetic", difficulty=5).problems("train", seed)).data["expression"]
    assert evaluate(expression, operate) == parse_expression(expression).value


@pytest.mark.parametrize("write", [write_drill, write_practice])
def test_exercises_are_true_short_and_answer_nothing(write: Callable[[Random], Document]) -> None:
    random = Random(0)
    documents = [write(random) for _ in range(500)]
    for document in documents:
        equations = claims(document.reasoning)
        assert len(equations) >= 4 and all(map(true, equations)), document
        assert "boxed" not in document.answer and len(document.reasoning) < 800
    assert {document.answer for document in documents} == {"Done.", "好了。"}


def test_practice_has_long_numbers_and_every_operation() -> None:
    random = Random(0)
    lines = [line for _ in range(300) for line in write_practice(random).reasoning.splitlines()]
    matches = [re.match(r"(-?\d+)([-+*/])(\d+)", line) for line in lines]
    assert {one[2] for one in matches if one} == set("+-*/") and all(matches)
    assert sum(len(one[1]) >= 3 for one in matches if one) > len(lines) / 3


def test_near_values_are_wrong() -> None:
    solver = Solver("en", Random(0))
    for value in (0, 1, -1, 2, 9, 10, -300, Fraction(1, 3)):
        assert all(solver.near(value) not in (value, 0) for _ in range(50))


def test_conversation_is_varied_short_and_without_reasoning() -> None:
    random = Random(0)
    documents = [conversation.write_conversation(random) for _ in range(2000)]
    assert len(set(documents)) > 300
    assert {document.reasoning for document in documents} == {""}
    assert all(0 < len(document.answer) < 150 and "{" not in document.answer for document in documents)
    assert all(document.prompt.isascii() == document.answer.isascii() for document in documents)
    answers = {document.answer for document in documents if document.prompt == "Who are you?"}
    assert answers
    assert all("Longjing" in answer and "small language model" in answer for answer in answers)


def claims(reasoning: str) -> list[str]:
    """The statements `a+b=c` about numbers in a text; equations with unknowns are none."""
    chains = re.findall(r"(?<![\w/.)(+*=-])-?[\d()][-+*/()\d]*(?:=-?[\d()][-+*/()\d]*)+(?![\dxy])", reasoning)
    return [claim for claim in chains if re.search(r"\d[-+*/]", claim.split("=")[0])]


def true(claim: str) -> bool:
    return len({parse_expression(side).value for side in claim.split("=")}) == 1
