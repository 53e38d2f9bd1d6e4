"""Countdown searched from both ends, for Stream of Search: every number that is looked for gets an answer.

Forward there are thousands of ways to combine four numbers. This searcher begins at the target: if 57 is wanted and 15
is taken away last, the other three must make 72. One more number is taken away in the same manner, and what must then
be made is looked for among the results of the two numbers that remain:

    57+15=72: 2 33 88
    33 88: 121 55; 72 2: 74 no 70 no 144 no 36 no

33 and 88 make 121 and 55; for 72 with 2 at the end they would have to make 74, 70, 144 or 36. Sums of two pairs come
last. All ways whose numbers are at most `LARGEST` are covered, and nine problems of ten have one.

A small network copies what it has just read, and calculates if it is shown how. It hardly compares two lists: with
one verdict for a line it said no to nine of ten lines that matched. So each number has a verdict of its own, and
problems of three numbers, where two verdicts in five are yes, are read beside those of four.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from longjing.problems import Problem
from longjing.problems.expression import join, number
from longjing.toys.countdown.corpus import Term, equation, guess, take
from longjing.toys.countdown.task import Move, moves
from longjing.toys.prose import Bilingual, Prose
from longjing.toys.toy import Document
from longjing.validation import read_yaml

LARGEST = 200  # that a number on the way may be: larger ones are seldom of use, and hard to calculate

Links = list[tuple[str, int]]  # what is done to a number, one (operator, other number) after the other


class _Phrases(Prose):
    miss: str
    hit: str
    solved: str
    give_up: str


_PHRASES = read_yaml(__file__, "phrases.yaml", Bilingual[_Phrases])


class Look(NamedTuple):
    """A place where what is needed could be among what a pair makes.

    `before`: what is written first. `first`: the step that was taken before, if one was. `wanted`: what the pair is to
    make, as it is written. `needed`: each number that would do, and how it then goes on to the target.
    """

    before: list[str]
    first: list[Move]
    pair: list[int]
    wanted: str
    needed: dict[int, Links]


def write_solution(problem: Problem, random: Random) -> Document:
    """One document: the problem's statement, the search, and the answer; a guess where nothing was found."""
    phrases = _PHRASES[problem.language]
    target, numbers = problem.data["target"], problem.data["numbers"]
    terms = [Term(value, number(value)) for value in numbers]
    lines = [f"{target}: {_listed(numbers)}"]
    for look in _looks(numbers, target):
        made, tried = _made(*look.pair), list(look.needed)
        match = next((value for value in tried if value in made), None)
        if match is not None:
            tried = tried[: tried.index(match) + 1]
        verdicts = " ".join(f"{value} {phrases.hit if value in made else phrases.miss}" for value in tried)
        lines += [*look.before, f"{_listed(look.pair)}: {_listed(made)}; {look.wanted}: {verdicts}"]
        if match is not None:
            steps = _follow([*look.first, made[match]], look.needed[match])
            lines.append(", ".join(map(equation, steps)))
            answer, conclusion = _expression(terms, steps), phrases.solved
            break
    else:
        answer, conclusion = guess(terms, target, random)[0].written.text, phrases.give_up
    lines.append(conclusion.format(answer))
    return Document(problem.prompt, "\n".join(lines), f"\\boxed{{{answer}}}", "search")


def _looks(numbers: list[int], target: int) -> Iterator[Look]:
    """All looks at three or four numbers, in order."""
    if len(numbers) == 3:
        yield from _among_three(numbers, target, [], [])
        return
    for last, three in _each(numbers):
        for goal, operator in _needed(target, last).items():
            first_line = f"{equation(_made(target, last)[goal])}: {_listed(three)}"
            yield from _among_three(three, goal, [first_line], [(operator, last)])
    for partner, pair in _each(numbers[1:]):
        for other, step in _made(numbers[0], partner).items():
            needed: dict[int, Links] = {v: [(o, other)] for v, o in _needed(target, other).items()}
            yield Look([f"{equation(step)}: {_listed(pair)}"], [step], pair, f"{target} {other}", needed)


def _among_three(numbers: list[int], goal: int, before: list[str], then: Links) -> Iterator[Look]:
    """Each of three numbers taken away from the goal, and looked for what remains."""
    for other, pair in _each(numbers):
        needed = {value: [(operator, other), *then] for value, operator in _needed(goal, other).items()}
        yield Look(before, [], pair, f"{goal} {other}", needed)
        before = []  # what leads to the three numbers is said once


def _follow(steps: list[Move], links: Links) -> list[Move]:
    """The steps and those that follow from the last one's result."""
    for operator, other in links:
        steps = [*steps, take(steps[-1].result, operator, other)]
    return steps


def _made(a: int, b: int) -> dict[int, Move]:
    """What two numbers make, and how."""
    return {step.result: step for step in moves(a, b) if step.result <= LARGEST}


def _needed(goal: int, other: int) -> dict[int, str]:
    """The numbers that make `goal` together with `other`, and by which operator: themselves what those two make."""
    return {value: step.operator for value in _made(goal, other) for step in moves(value, other) if step.result == goal}


def _each(numbers: list[int]) -> Iterator[tuple[int, list[int]]]:
    for index, value in enumerate(numbers):
        yield value, numbers[:index] + numbers[index + 1 :]


def _expression(terms: list[Term], steps: list[Move]) -> str:
    table = list(terms)
    for step in steps:
        left, right = (
            table.pop(next(i for i, term in enumerate(table) if term.value == value))
            for value in (step.left, step.right)
        )
        table.append(Term(step.result, join(left.written, step.operator, right.written)))
    return table[0].written.text


def _listed(values: Iterable[int]) -> str:
    return " ".join(map(str, values))
