"""Arithmetic, by people who guess, who calculate in small steps, and who check (`solver.py`)."""

import ast
import re
from collections.abc import Callable
from random import Random
from typing import Any

from longjing.problems import Problem
from longjing.toys.arithmetic.solver import PHRASES, Operate, Solver, Value, Values, claim, operate
from longjing.toys.toy import Document

LONG, TOO_LONG = 200, 320  # characters of work and check: then the second try is brief, or there is none
_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def solve_as_somebody(
    problem: Problem,
    random: Random,
    *,
    truth: Values,
    written: Callable[[Values], str],
    stated: Callable[[Values], str],
    work: Callable[[Solver], Values],
    check: Callable[[Values], str],
) -> Document:
    """A document by some solver.

    `truth` is the right result, `written` a result as an answer, `stated` a claim of it in one line; `work`
    writes the steps and returns what came out; `check` is a check of that, without slips.
    """
    solver = Solver(problem.language, random)
    if solver.style in ("guess", "direct"):
        values = [solver.near(value) for value in truth] if random.random() < solver.slip else truth
        text = solver.say(PHRASES, "guess", written(values)) if solver.style == "guess" else stated(values)
        return Document(problem.prompt, text, f"\\boxed{{{written(values)}}}", solver.style)
    values = work(solver)
    if solver.style == "checked":
        solver.lines.append(solver.say(PHRASES, "check") + check(values))
        length = sum(map(len, solver.lines))
        if values == truth:
            solver.lines.append(solver.say(PHRASES, "right"))
        elif length > TOO_LONG:
            solver.lines += [solver.say(PHRASES, "wrong", written(values)), solver.say(PHRASES, "give_up")]
        else:
            solver.lines += [solver.say(PHRASES, "wrong", written(values)), solver.say(PHRASES, "again")]
            solver.slip, solver.brief = 0.0, length > LONG
            values = work(solver)
    solver.lines.append(solver.say(PHRASES, "so", written(values)))
    return Document(problem.prompt, "\n".join(solver.lines), f"\\boxed{{{written(values)}}}", solver.style)


def write_solution(problem: Problem, random: Random) -> Document:
    """One document: the expression, somebody's calculation, and the value they gave, right or wrong."""
    expression = problem.data["expression"]

    def check(values: Values) -> str:
        """Back from the result to the first number if that takes one sum or product, else all once more."""
        simple = re.fullmatch(r"(\d+)([-+/])(\d+)", expression)
        if simple and isinstance(values[0], int):
            first, operator, second = int(simple[1]), simple[2], int(simple[3])
            return f"{claim(values[0], {'+': '-', '-': '+', '/': '*'}[operator], second)} vs {first}"
        return recount(lambda state: evaluate(expression, state), values[0])

    return solve_as_somebody(
        problem,
        random,
        truth=[evaluate(expression, operate)],
        written=lambda values: str(values[0]),
        stated=lambda values: f"{expression}={values[0]}",
        work=lambda solver: [evaluate(expression, solver.calculate)],
        check=check,
    )


def evaluate(expression: str, operate: Operate) -> Value:
    """The value of an expression of non-negative integers, each operation being done by `operate`."""

    def value(node: Any) -> Value:
        if isinstance(node, ast.Constant):
            return int(node.value)  # type: ignore[arg-type]  # expressions hold integers only
        return operate(value(node.left), _OPERATORS[type(node.op)], value(node.right))

    return value(ast.parse(expression, mode="eval").body)


def recount(run: Callable[[Operate], object], result: Value) -> str:
    """The operations that `run` does, each in one step and right, beside what had been the result."""
    claims: list[str] = []

    def state(a: Value, operator: str, b: Value) -> Value:
        claims.append(claim(a, operator, b))
        return operate(a, operator, b)

    run(state)
    return f"{', '.join(claims)} vs {result}"
