"""Countdown with four numbers, searched from both ends.

Forward there are thousands of ways to combine four numbers. This searcher begins at the target: if 57 is wanted and
15 comes last, the other three must make 42, 72 or 855. One more number is taken away in the same manner, and what must
then be made is looked for among the results of the two numbers that remain. Sums of two pairs come last: a result of
the first pair is taken away from the target, and the rest looked for among the results of the second. Some forty
lines so cover all ways whose numbers stay below `LARGEST`, and nine problems of ten have one.

Every searcher is complete here and never slips, unlike those of `countdown`. Numbers are taken in the order in which
they were given: a small network learns to copy them at once, and hardly to sort them.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from longjing.learning.corpus.countdown import Step, Term, equation, guess
from longjing.learning.corpus.document import Document
from longjing.tasks import Problem
from longjing.tasks.countdown import moves
from longjing.tasks.expression import join, number

LARGEST = 200  # that a number on the way may be: larger ones are seldom of use, and hard to calculate

_WORDS = {
    "en": {
        "start": "Backwards from {}.", "pairs": "Now two pairs.", "no": "no", "yes": "yes", "found": "So {}.",
        "give_up": "Not found. Maybe {}.",
    },
    "zh": {
        "start": "从 {} 倒推。", "pairs": "再看两对。", "no": "没有", "yes": "有", "found": "所以 {}。",
        "give_up": "没找到。可能是 {}。",
    },
}  # fmt: skip


class Look(NamedTuple):
    """A place where what is needed could be among what a pair makes.

    `before`: what is written first. `made_first`: the step that made `other`, if one did. `needed`: each number that
    would do, with what has to be done to it, one (operator, other number) after the other, to reach the target.
    """

    before: list[str]
    made_first: list[Step]
    pair: list[int]
    other: int
    needed: dict[int, list[tuple[str, int]]]


def write(problem: Problem, random: Random) -> Document:
    """One document: the problem's statement, the search, and the answer; a guess where nothing was found."""
    words, target = _WORDS[problem.language], problem.data["target"]
    numbers = problem.data["numbers"]
    terms = [Term(value, number(value)) for value in numbers]
    lines = [words["start"].format(target), _listed(numbers)]
    for look in _looks(numbers, target, words["pairs"]):
        made = _made(*look.pair)
        match = next((value for value in look.needed if value in made), None)
        sides = f"{_listed(look.pair)}: {_listed(made)}; {look.other}: {_listed(look.needed)}"
        lines += [*look.before, f"{sides} {words['no' if match is None else 'yes']}"]
        if match is not None:
            steps = _follow([*look.made_first, made[match]], look.needed[match])
            lines.append(", ".join(map(equation, steps)))
            answer, told = _expression(terms, steps), words["found"]
            break
    else:
        answer, told = guess(terms, target, random)[0].written.text, words["give_up"]
    lines.append(told.format(answer))
    return Document(problem.prompt, "\n".join(lines), f"\\boxed{{{answer}}}", "search")


def _looks(numbers: list[int], target: int, pairs: str) -> Iterator[Look]:
    """All looks at four numbers, in order."""
    for last, three in _each(numbers):
        for goal, operator in _needed(target, last).items():
            before = [f"{equation(_made(target, last)[goal])}: {_listed(three)}"]
            for other, pair in _each(three):
                needed = {v: [(o, other), (operator, last)] for v, o in _needed(goal, other).items()}
                yield Look(before, [], pair, other, needed)
                before = []
    before = [pairs]
    for partner, pair in _each(numbers[1:]):
        for other, step in _made(numbers[0], partner).items():
            needed = {v: [(operator, other)] for v, operator in _needed(target, other).items()}
            yield Look([*before, f"{equation(step)}: {_listed(pair)}"], [step], pair, other, needed)
            before = []


def _follow(steps: list[Step], links: list[tuple[str, int]]) -> list[Step]:
    """The steps and those that follow from the last one's result."""
    for operator, other in links:
        legal = (Step(*move) for move in moves(steps[-1].result, other) if move[1] == operator)
        steps = [*steps, next(legal)]
    return steps


def _made(a: int, b: int) -> dict[int, Step]:
    """What two numbers make, and how."""
    return {move[3]: Step(*move) for move in moves(a, b) if move[3] <= LARGEST}


def _needed(goal: int, other: int) -> dict[int, str]:
    """The numbers that make `goal` together with `other`, and by which operator: themselves what those two make."""
    return {
        value: operator
        for value in _made(goal, other)
        for _, operator, _, result in moves(value, other)
        if result == goal
    }


def _each(numbers: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Each number with the others."""
    for place, value in enumerate(numbers):
        yield value, numbers[:place] + numbers[place + 1 :]


def _expression(terms: list[Term], steps: list[Step]) -> str:
    """The steps as one expression."""
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
