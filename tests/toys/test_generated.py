"""Arithmetic, equations and word problems: the answers are right, and what is accepted as one."""

import re
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longjing import tasks
from longjing.problems.expression import parse_expression
from longjing.tasks import Completion, Problem, Task
from longjing.toys.word_problems.stories import STORIES
from longjing.toys.word_problems.task import LIMIT

seeds = st.integers(0, 10**6)
difficulties = st.integers(1, 5)


def correct(task: Task, problem: Problem, answer: str) -> bool:
    return task.judge(problem, Completion.parse(f"so</think>\\boxed{{{answer}}}")).outcome == "correct"


def draw(name: str, difficulty: int, seed: int) -> tuple[Task, Problem]:
    task = tasks.get(name, difficulty=difficulty)
    return task, next(task.problems("train", seed))


@settings(max_examples=100, deadline=None)
@given(difficulties, seeds)
def test_arithmetic(difficulty: int, seed: int) -> None:
    task, problem = draw("arithmetic", difficulty, seed)
    text = problem.data["expression"]
    read = parse_expression(text)
    options = task.settings
    assert len(read.literals) == options["terms"]
    assert max(read.literals) < 10 ** options["digits"]
    assert {sign for sign in text if sign in "+-*/"} <= set(options["operations"])
    assert text in problem.prompt
    if not options["fractions"]:
        assert all(value.denominator == 1 for value in read.intermediates)
    assert not correct(task, problem, text)  # repeating the question is no answer
    assert not correct(task, problem, str(read.value + 1))
    assert not correct(task, problem, str(-read.value)) or not read.value
    assert not correct(task, problem, f"{text}={problem.answer}")


@pytest.mark.parametrize(
    ("expression", "answer", "right"),
    [
        ("3/4+1/4", "1", True),
        ("6/4", "3/2", True),
        ("6/4", "1.5", True),
        ("6/4", "\\frac{3}{2}", True),
        ("6/4", "１．５", True),
        ("6/4", "6/4", False),
        ("6/4", "1.50001", False),
        ("1/3", "0.3333333333", False),
        ("3-5", "-2", True),
        ("3-5", "−2", True),
        ("3-5", "- 2", True),
        ("3-5", "-2.0", True),
        ("3-5", "2", False),
        ("3-5", "-2 ok", False),
    ],
)
def test_arithmetic_answers(expression: str, answer: str, right: bool) -> None:
    problem = Problem("arithmetic", "", "", "", {"expression": expression}, "en")
    assert correct(tasks.get("arithmetic"), problem, answer) == right


@settings(max_examples=100, deadline=None)
@given(difficulties, seeds)
def test_equations_hold_for_their_answer(difficulty: int, seed: int) -> None:
    task, problem = draw("equations", difficulty, seed)
    values = {name: Fraction(value) for name, value in (p.split("=") for p in problem.answer.split(", "))}
    for equation in problem.data["equations"]:
        sides = [
            sum(c * v for c, v in zip(side, [*values.values(), 1], strict=True))
            for side in (equation["left"], equation["right"])
        ]
        assert sides[0] == sides[1]
    if not task.settings["fractions"]:
        assert all(value.denominator == 1 for value in values.values())
    for name in values:
        wrong = {**values, name: values[name] + 1}
        assert not correct(task, problem, ", ".join(f"{n}={v}" for n, v in wrong.items()))
    assert correct(task, problem, "；".join(f"{n} = {v}" for n, v in reversed(values.items())))


@settings(max_examples=100, deadline=None)
@given(difficulties, seeds)
def test_equations_say_what_their_data_says(difficulty: int, seed: int) -> None:
    """Each side, put into the prompt as text and evaluated at a point, has the value of its coefficients."""
    _, problem = draw("equations", difficulty, seed)
    for equation in problem.data["equations"]:
        texts = []
        for side in (equation["left"], equation["right"]):
            *coefficients, constant = side
            names = "xy"[: len(coefficients)]
            text = next(t for t in candidates(problem.prompt) if evaluates(t, names, coefficients, constant))
            texts.append(text)
        assert "=".join(texts) in problem.prompt


def candidates(prompt: str) -> list[str]:
    return [side for equation in re.findall(r"[-+\dxy]+=[-+\dxy]+", prompt) for side in equation.split("=")]


def evaluates(text: str, names: str, coefficients: list[int], constant: int) -> bool:
    for point in ((7, 101), (13, 1009)):
        plain = text
        for name, at in zip(names, point, strict=False):
            plain = re.sub(rf"(\d){name}", rf"\1*{at}", plain).replace(name, str(at))
        expected = sum(c * at for c, at in zip(coefficients, point, strict=False)) + constant
        if parse_expression(plain).value != expected:
            return False
    return True


ONE = {"equations": [{"left": [2, 1], "right": [0, 7]}]}
TWO = {"equations": [{"left": [1, 1, 0], "right": [0, 0, 1]}, {"left": [1, -1, 0], "right": [0, 0, 5]}]}


@pytest.mark.parametrize(
    ("data", "answer", "right"),
    [
        (ONE, "3", True),
        (ONE, "x=3", True),
        (ONE, "x ＝ 3", True),
        (ONE, "3.0", True),
        (ONE, "x=6/2", False),
        (ONE, "y=3", False),
        (ONE, "x=3, x=3", False),
        (ONE, "x=3, y=1", False),
        (ONE, "3=x", False),
        (ONE, "2x+1=7", False),
        (ONE, "x=x", False),
        (TWO, "x=3, y=-2", True),
        (TWO, "y=-2,x=3", True),
        (TWO, "x=3，y=−2", True),
        (TWO, "x=3；y=-2", True),
        (TWO, "x=3 and y=-2", True),
        (TWO, "x=3 和 y=-2", True),
        (TWO, "x=-2, y=3", False),
        (TWO, "3, -2", False),
        (TWO, "x=3", False),
        (TWO, "x=3, y=-2, z=1", False),
        (TWO, "x=3, y=-2,", False),
        (TWO, "x=3 y=-2", False),
    ],
)
def test_equations_answers(data: dict[str, object], answer: str, right: bool) -> None:
    problem = Problem("equations", "", "", "", data, "en")
    assert correct(tasks.get("equations"), problem, answer) == right


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), seeds, st.sampled_from(["en", "zh"]))
def test_word_problems(steps: int, seed: int, language: str) -> None:
    task = tasks.get("word-problems", steps=steps, largest=50, language=language)
    problem = next(task.problems("train", seed))
    done = problem.data["steps"]
    assert len(done) == steps
    for step in done:
        text = f"{step['left']}{step['operation']}{step['right']}"
        assert parse_expression(text).value == step["result"]
        assert 0 <= step["result"] <= LIMIT
    assert problem.answer == str(done[-1]["result"])
    assert not correct(task, problem, str(done[-1]["result"] + 1))
    words = {2: ("2", "twice"), 3: ("3", "three"), 4: ("4", "four")}
    for part in problem.data["told"]:
        for number in (part["a"], part["b"]):
            assert not number or any(form in problem.prompt for form in words.get(number, (str(number),)))
    assert problem.prompt.endswith("?" if language == "en" else "？")


def test_every_part_of_every_story_is_told() -> None:
    """And each number of a step is either told or the result of an earlier step."""
    seen: set[tuple[str, str, int]] = set()
    for steps in (1, 3, 6):
        task = tasks.get("word-problems", steps=steps, largest=100)
        for problem in islice(task.problems("train", 0), 1500):
            first, *events, last = problem.data["told"]
            story = problem.data["story"]
            seen |= {(story, "event", event["part"]) for event in events}
            seen |= {(story, "opening", first["part"]), (story, "ending", last["part"])}
            numbers = {n for part in problem.data["told"] for n in (part["a"], part["b"])}
            for step in problem.data["steps"]:
                assert {step["left"], step["right"]} <= numbers
                numbers.add(step["result"])
    assert len(STORIES) >= 12
    for name, story in STORIES.items():
        for kind, parts in (("opening", story.openings), ("event", story.events), ("ending", story.endings)):
            assert {(name, kind, number) for number in range(len(parts))} <= seen


def test_names_and_things_do_not_change_the_identity_of_a_word_problem() -> None:
    prompts: dict[str, set[str]] = {}
    for problem in islice(tasks.get("word-problems", difficulty=1, largest=10).problems("train", 0), 3000):
        prompts.setdefault(problem.id, set()).add(problem.prompt)
    assert max(map(len, prompts.values())) > 2


@pytest.mark.parametrize("name", [name for name, story in STORIES.items() if "has {name}" in story.endings[0].en])
def test_what_somebody_did_in_all_is_what_they_did_themselves(name: str) -> None:
    """Where a story asks how much {name} has read or travelled, every part is of {name}'s own reading or travelling."""
    story = STORIES[name]
    for part in (*story.openings, *story.events):
        for text in (part.en, part.zh):
            doer = re.search(r"\{(name|he|other)\}", text)
            assert doer is not None and doer[1] != "other", text
