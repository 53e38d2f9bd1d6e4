"""Countdown: combine the numbers, each exactly once, with + - * / to reach the target.

The game is that of Stream of Search (arXiv 2404.03683): intermediate values are non-negative integers, so
that a subtraction never goes below zero and a division is exact. Every problem has such a solution: numbers
and target are drawn evenly from their ranges, and drawn again if they have none. The judge is more generous:
it accepts any expression that is exact, through negative numbers and fractions too.
"""

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import combinations, product
from random import Random
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import Field, PositiveInt, model_validator

from longjing.problems import GeneratedTask, Language, ProblemData, TaskSettings
from longjing.problems.expression import BINDING, Written, join, number, parse_expression, parse_number, plain
from longjing.toys.prose import Wording, read_difficulties
from longjing.validation import read_yaml

WORDING = read_yaml(__file__, "prompts.yaml", Wording)


class CountdownSettings(TaskSettings):
    """How many `numbers`, drawn from 1..`largest`, and the range of the targets."""

    difficulties: ClassVar = read_difficulties(__file__)

    numbers: int = Field(ge=2, le=6)
    largest: int = Field(ge=2, le=1000)
    smallest_target: int = Field(ge=1)
    largest_target: int = Field(le=1000)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.smallest_target > self.largest_target:
            raise ValueError(f"smallest_target {self.smallest_target} is above largest_target {self.largest_target}")
        if self.smallest_target > self.largest**self.numbers:
            raise ValueError(
                f"smallest_target {self.smallest_target} can't be reached with {self.numbers} numbers up to "
                f"{self.largest}"
            )
        return self


class CountdownData(ProblemData):
    """The numbers in the order in which they are given, and the target."""

    numbers: Annotated[list[PositiveInt], Field(min_length=1)]
    target: PositiveInt


class Countdown(GeneratedTask[CountdownSettings, CountdownData]):
    """Which expression of all the numbers makes the target?"""

    name = "countdown"
    settings_type = CountdownSettings
    data_type = CountdownData

    def draw(self, random: Random) -> CountdownData:
        options = self.options
        numbers = [random.randint(1, options.largest) for _ in range(options.numbers)]
        target = random.randint(options.smallest_target, options.largest_target)
        return CountdownData(numbers=numbers, target=target)

    def key(self, data: CountdownData) -> str:
        return f"{sorted(data.numbers)} {data.target}"

    def answer(self, data: CountdownData) -> str | None:
        return solve_countdown(data.numbers, data.target)

    def prompt(self, data: CountdownData, language: Language, random: Random) -> str:
        *first, last = map(str, data.numbers)
        numbers = f"{', '.join(first)} and {last}" if language == "en" else "、".join([*first, last])
        return random.choice(WORDING.prompts[language]).format(numbers=numbers, target=data.target)

    def mistake(self, data: CountdownData, answer: str) -> str | None:
        left, equals, right = plain(answer).partition("=")
        expression = parse_expression(left)
        if equals and parse_number(right) != data.target:
            return f"the right side is not {data.target}"
        if sorted(expression.literals) != sorted(data.numbers):
            return "does not use each number exactly once"
        if expression.value != data.target:
            return f"equals {str(expression.value)[:40]}, not {data.target}"
        return None


class Move(NamedTuple):
    """What is done with two numbers, and what comes of it."""

    left: int
    operator: str
    right: int
    result: int


def moves(a: int, b: int) -> list[Move]:
    """The legal operations on two numbers, larger operand first."""
    if a < b:
        a, b = b, a
    legal = [Move(a, "+", b, a + b), Move(a, "-", b, a - b), Move(a, "*", b, a * b)]
    if b and a % b == 0:
        legal.append(Move(a, "/", b, a // b))
    return legal


def solve_countdown(numbers: Sequence[int], target: int) -> str | None:
    """An expression of all the numbers that equals `target`, with as few parentheses as any.

    Numbers and target are positive. The search is exhaustive among the expressions whose intermediate values
    are non-negative integers; None if there is none.
    """
    if len(numbers) == 1:
        return str(target) if numbers[0] == target else None
    best: Written | None = None
    for ones, others in _splits(tuple(sorted(numbers))):  # sorted, or the cache would hold every order apart
        table = _reachable(others)
        for a, lefts in _reachable(ones).items():
            for operator, b in _partners(a, target):
                if b in table:
                    larger, smaller = (lefts, table[b]) if a >= b else (table[b], lefts)
                    for left, right in product(larger, smaller):
                        best = _better(best, left, operator, right)
    return best.text if best else None


def _partners(a: int, target: int) -> list[tuple[str, int]]:
    """Each number that makes `target` together with `a` in one operation, in either order."""
    partners = [("-", target + a)]
    if a <= target:
        partners.append(("+", target - a))
    if a >= target:
        partners.append(("-", a - target))
    if a:
        partners.append(("/", target * a))
        if target % a == 0:
            partners.append(("*", target // a))
        if a % target == 0:
            partners.append(("/", a // target))
    return partners


# For each value, its best expressions, one for each way to bind: that decides about parentheses further out.
_Table = dict[int, list[Written]]


@lru_cache(maxsize=1 << 15)
def _reachable(numbers: tuple[int, ...]) -> _Table:
    """What these (sorted) numbers reach, each used once, every intermediate value a non-negative integer."""
    if len(numbers) == 1:
        return {numbers[0]: [number(numbers[0])]}
    best: dict[tuple[int, int], Written] = {}
    for ones, others in _splits(numbers):
        pairs = product(_reachable(ones).items(), _reachable(others).items())
        for (a, lefts), (b, rights) in pairs:
            larger, smaller = (lefts, rights) if a >= b else (rights, lefts)
            for _, operator, _, value in moves(a, b):
                slot = (value, BINDING[operator])
                for left, right in product(larger, smaller):
                    best[slot] = _better(best.get(slot), left, operator, right)
    table: _Table = {}
    for (value, _), written in best.items():
        table.setdefault(value, []).append(written)
    return table


def _better(best: Written | None, left: Written, operator: str, right: Written) -> Written:
    """`known`, or `left operator right` if that has fewer parentheses."""
    binding = BINDING[operator]
    parentheses = left.parentheses + right.parentheses + (left.binding < binding) + (right.binding <= binding)
    return best if best and best.parentheses <= parentheses else join(left, operator, right)


def _splits(numbers: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The ways to part the numbers into two groups, neither of them empty."""
    halves = _halves(len(numbers))
    return [(tuple([numbers[i] for i in ones]), tuple([numbers[i] for i in others])) for ones, others in halves]


@cache
def _halves(count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The ways to part `count` positions into two groups, the first one being in the first group."""
    # The other way round is the same split: operations are tried with either side first.
    chosen = [(0, *more) for size in range(count - 1) for more in combinations(range(1, count), size)]
    return [(ones, tuple(i for i in range(count) if i not in ones)) for ones in chosen]
