"""Word problems, by people who guess, who write one expression, and who follow the story line by line."""

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple, TypeVar

from longjing.problems import Problem
from longjing.problems.expression import Written, join, number
from longjing.toys.arithmetic.corpus import recount, solve_as_somebody
from longjing.toys.arithmetic.solver import Operate, Phrases, Solver, Value, Values
from longjing.toys.prose import Forms
from longjing.toys.toy import Document
from longjing.toys.word_problems.stories import STORIES
from longjing.validation import read_yaml


class _Phrases(Forms):
    lines: Phrases


PHRASES = read_yaml(__file__, "phrases.yaml", _Phrases)


class StoryPart(NamedTuple):
    """What one part of a story does (`stories.yaml` says which kinds there are), and its numbers."""

    kind: str
    a: int
    b: int


N = TypeVar("N")


def write_solution(problem: Problem, random: Random) -> Document:
    """One document: the story, somebody's calculation, and the number they gave, right or wrong."""
    parts = _story_parts(problem.data)
    truth = problem.data["steps"][-1]["result"]

    def work(solver: Solver) -> Values:
        def calculate(kind: str, a: Value, operator: str, b: Value, *named: Value) -> Value:
            return solver.calculate(a, operator, b, solver.say(PHRASES.lines, kind, *named))

        if parts[0].kind == "=":
            solver.lines.append(f"{solver.say(PHRASES.lines, 'start')}{parts[0].a}")
        return [_follow(parts, int, calculate)]

    def expression(kind: str, a: Written, operator: str, b: Written, *named: Written) -> Written:
        return join(a, operator, b)

    def check(values: Values) -> str:
        def run(operate: Operate) -> Value:
            return _follow(parts, int, lambda kind, a, operator, b, *named: operate(a, operator, b))

        return recount(run, values[0])

    return solve_as_somebody(
        problem,
        random,
        truth=[truth],
        written=lambda values: str(values[0]),
        stated=lambda values: f"{_follow(parts, number, expression).text}={values[0]}",
        work=work,
        check=check,
    )


def _story_parts(data: dict[str, Any]) -> list[StoryPart]:
    """The opening, the events and the ending that a problem's data name."""
    story, parts = STORIES[data["story"]], data["told"]
    choices = [story.openings, *[story.events] * (len(parts) - 2), story.endings]
    return [
        StoryPart(choice[part["part"]].kind, part["a"], part["b"]) for choice, part in zip(choices, parts, strict=True)
    ]


def _follow(parts: list[StoryPart], number: Callable[[int], N], operate: Callable[..., N]) -> N:
    """The result of the story; `operate(kind, left, operator, right, *numbers named)` does each operation."""
    amount = number(parts[0].a)
    for kind, *numbers in parts:
        a, b = map(number, numbers)
        match kind:
            case "=" | "":
                pass
            case "=+" | "=-" | "=*" | "=/":
                amount = operate("start", a, kind[1], b)
            case "+*" | "-*":
                product = operate("groups", a, "*", b, a, b)
                amount = operate(kind[0], amount, kind[0], product, product)
            case "from":
                amount = operate("from", a, "-", amount, a)
            case _:
                amount = operate(kind, amount, kind, a, a)
    return amount
