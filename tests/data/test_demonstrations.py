"""Worked solutions are right in every line, and tasks that nobody can demonstrate are refused."""

import json
import re
from itertools import chain, combinations, islice, product
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.data.demonstrations import calculation, demonstrable_names, demonstrate, linear_equations, syllogisms
from longjing.learning.demonstration import Demonstration, DemonstrationSettings
from longjing.problems import Problem

EQUATION = re.compile(r"(?<![\w*/+-] )(?<![\w.])(-?\d+(?: [-+*/] -?\d+)*) = (-?\d+)(?= = |,|$|\n)")
numbers = st.integers(-9999, 9999)


def value_of(expression: str) -> float:
    assert re.fullmatch(r"[-+*/ \d]+", expression)
    return eval(expression)  # digits and signs


@pytest.mark.parametrize("name", [name for name in demonstrable_names() if name.startswith("gym:")])
def test_solutions_are_right_and_most_problems_have_one(name: str) -> None:
    pytest.importorskip("reasoning_gym")
    task = tasks.get(name)
    problems = list(islice(task.problems("train", 3), 40))
    solutions = [(problem, demonstrate(task, problem, Random(0))) for problem in problems]
    solved = [(problem, solution) for problem, solution in solutions if solution]
    assert len(solved) >= 36
    for problem, solution in solved:
        assert task.judge(problem, solution).outcome == "correct"
        if name != "gym:gsm_symbolic":
            for left, right in EQUATION.findall(solution.reasoning):
                assert value_of(left) == int(right), solution.reasoning


@pytest.mark.parametrize("name", ["arithmetic", "equations", "word-problems", "countdown"])
def test_toys_are_demonstrated_without_guesses_and_slips(name: str) -> None:
    task = tasks.get(name, difficulty=2)
    for problem in islice(task.problems("train", 3), 20):
        if solution := demonstrate(task, problem, Random(problem.id)):
            assert solution.reasoning and task.judge(problem, solution).rewards["format"] == 1


@given(numbers, st.sampled_from("+-*"), numbers)
def test_every_step_of_a_calculation_holds(left: int, operator: str, right: int) -> None:
    lines = calculation.steps(left, operator, right)
    assert lines[-1].endswith(f" = {calculation.apply(left, operator, right)}")
    for line in lines:
        first, *rest = line.split(" = ")
        assert all(value_of(part) == value_of(first) for part in rest)


@given(numbers.filter(bool), numbers)
def test_every_step_of_a_division_holds(divisor: int, quotient: int) -> None:
    lines = calculation.steps(divisor * quotient, "/", divisor)
    assert lines[-1] == f"{divisor * quotient} / {divisor} = {quotient}"
    for part in chain.from_iterable(line.split(", ") for line in lines):
        left, right = part.split(" = ")
        assert value_of(left) == value_of(right)
    assert calculation.apply(divisor * quotient + 1, "/", divisor) in (
        None,
        divisor * quotient + 1,
        -divisor * quotient - 1,
    )


@given(st.integers(-99, 99).filter(bool), st.integers(-999, 999), st.integers(-99, 99), st.booleans())
def test_equations_are_solved(factor: int, number: int, solution: int, number_first: bool) -> None:
    term = {1: "x", -1: "-x"}.get(factor, f"{factor}*x")
    size = abs(number)
    if number_first and number:
        sign, term = ("-", term[1:]) if term.startswith("-") else ("+", term)
        left = f"{number} {sign} {term}"
    else:
        left = f"{term} {'+' if number > 0 else '-'} {size}" if number else term
    text = f"Solve for x: {left} = {factor * solution + number}\n\nPut the final answer in \\boxed{{}}."
    reasoning = linear_equations.solution(Problem("gym:simple_equations", "1", text, str(solution), {}, "en"))
    assert reasoning is not None and reasoning.splitlines()[-1].split(" = ")[-1] == str(solution)


def follows(premises: list[syllogisms.Statement], conclusion: syllogisms.Statement, terms: list[str]) -> bool:
    """By all ways in which things can be of the terms or not, none of the terms being empty."""
    kinds = list(product([False, True], repeat=len(terms)))
    worlds = chain.from_iterable(combinations(kinds, count) for count in range(1, len(kinds) + 1))

    def holds(statement: syllogisms.Statement, world: tuple[tuple[bool, ...], ...]) -> bool:
        subject, predicate = terms.index(statement.subject), terms.index(statement.predicate)
        both = any(thing[subject] and thing[predicate] for thing in world)
        only = any(thing[subject] and not thing[predicate] for thing in world)
        return {"all": not only, "no": not both, "some": both, "some not": only}[statement.quantifier]

    return all(
        holds(conclusion, world)
        for world in worlds
        if all(any(thing[index] for thing in world) for index in range(len(terms)))
        and all(holds(premise, world) for premise in premises)
    )


@pytest.mark.parametrize("figure", [("MP", "SM"), ("PM", "SM"), ("MP", "MS"), ("PM", "MS")])
def test_syllogisms_are_decided_as_logic_does(figure: tuple[str, str]) -> None:
    words = {"S": "cats", "M": "dogs", "P": "lions"}
    said = {"all": "All {} are {}", "no": "No {} are {}", "some": "Some {} are {}", "some not": "Some {} are not {}"}
    for quantifiers in product(said, repeat=3):
        statements = [
            syllogisms.Statement(quantifier, words[pair[0]], words[pair[1]])
            for quantifier, pair in zip(quantifiers, [*figure, "SP"], strict=True)
        ]
        one, two, asked = (said[each.quantifier].format(each.subject, each.predicate) for each in statements)
        text = (
            f"Consider these statements:\n1. {one}\n2. {two}\n\nDoes it logically follow that:\n{asked}?\n(Yes or No)"
        )
        reasoning = syllogisms.solution(Problem("gym:syllogism", "1", text, "", {}, "en"))
        truth = follows(statements[:2], statements[2], list(words.values()))
        assert reasoning is not None and reasoning.endswith("Yes." if truth else "No."), (text, truth)


def stage(**settings: object) -> Demonstration:
    given = {"task": [{"name": "arithmetic", "language": "en"}], "problems": 40, "problems_per_step": 16}
    return Demonstration(
        DemonstrationSettings.model_validate(given | settings), Runtime(0, torch.device("cpu"), torch.float32)
    )


def test_the_stage_writes_conversations_some_of_which_say_the_form() -> None:
    made = stage(others={"conversation": 0.25})
    assert made.steps == 3
    steps = [made.step(number) for number in range(3)]
    rows = [row for step in steps for row in step.data]
    own = [row for row in rows if row["task"] == "arithmetic"]
    assert len(own) == sum(step.metrics["kept"] for step in steps) and len(rows) > len(own)
    told = sum("<think>" in row["messages"][0]["content"] for row in own)
    assert 0 < told < len(own)
    again = stage(others={"conversation": 0.25})
    assert json.dumps([row for number in range(3) for row in again.step(number).data]) == json.dumps(rows)


def test_what_nobody_can_demonstrate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="nobody has written how to solve problems of conversation"):
        stage(task="conversation")
