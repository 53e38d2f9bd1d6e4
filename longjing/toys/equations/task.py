"""Equations: one linear equation with one unknown, or a system of two with two unknowns."""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from random import Random
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from longjing.problems import GeneratedTask, Language, ProblemData, TaskSettings
from longjing.problems.expression import ExpressionError, parse_number, plain
from longjing.toys.prose import Bilingual, Forms, read_difficulties
from longjing.validation import read_yaml


class _EquationsWording(Forms):
    one_unknown: Bilingual[list[str]]
    two_unknowns: Bilingual[list[str]]


WORDING = read_yaml(__file__, "prompts.yaml", _EquationsWording)
UNKNOWNS = "xy"
_MAX_DENOMINATOR = 12  # of a solution
_SEPARATOR = re.compile(r"[,;\n]|\band\b|[和与且]")


class EquationsSettings(TaskSettings):
    """How many `unknowns` (and equations), and how large the numbers are, in absolute value.

    `both_sides`: the unknown appears left and right of the sign (one unknown only). Without `negatives` every
    coefficient, constant and solution is at least zero; without `fractions` the solutions are integers.
    """

    difficulties: ClassVar = read_difficulties(__file__)

    unknowns: int = Field(ge=1, le=2)
    largest_coefficient: int = Field(ge=2, le=1000)
    largest_number: int = Field(ge=1, le=1000)
    both_sides: bool = False
    negatives: bool = True
    fractions: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.both_sides and self.unknowns == 2:
            raise ValueError("both_sides needs unknowns 1: a system has its unknowns on the left")
        return self


class Equation(ProblemData):
    """`left = right`; each side holds the coefficients of the unknowns, then a constant."""

    left: Annotated[list[int], Field(min_length=2, max_length=3)]
    right: Annotated[list[int], Field(min_length=2, max_length=3)]

    def __str__(self) -> str:
        return f"{_side(self.left)}={_side(self.right)}"


class EquationsData(ProblemData):
    """A system of as many equations as unknowns, with exactly one solution."""

    equations: Annotated[list[Equation], Field(min_length=1, max_length=2)]

    @model_validator(mode="after")
    def _solvable(self) -> Self:
        unknowns = len(self.equations)
        if any(len(side) != unknowns + 1 for e in self.equations for side in (e.left, e.right)):
            raise ValueError("as many equations as unknowns are needed")
        if solve_linear(self.equations) is None:
            raise ValueError("the equations don't have exactly one solution")
        return self

    def solution(self) -> list[Fraction]:
        """The values of the unknowns."""
        solution = solve_linear(self.equations)
        assert solution is not None  # see _solvable
        return solution


class Equations(GeneratedTask[EquationsSettings, EquationsData]):
    """Which values of the unknowns satisfy the equations?"""

    name = "equations"
    settings_type = EquationsSettings
    data_type = EquationsData

    def draw(self, random: Random) -> EquationsData | None:
        options = self.options
        solution = [self._number(random) for _ in range(options.unknowns)]
        equations = [self._equation(random, solution) for _ in solution]
        actual = solve_linear(equations)
        if actual is None or str(equations[0]) == written(actual):  # x=3 would be its own answer
            return None
        if not options.negatives and (min(actual) < 0 or min(n for e in equations for n in e.right) < 0):
            return None
        if max(value.denominator for value in actual) > _MAX_DENOMINATOR:
            return None
        return EquationsData(equations=equations)

    def key(self, data: EquationsData) -> str:
        return str(sorted(sorted((equation.left, equation.right)) for equation in data.equations))

    def answer(self, data: EquationsData) -> str:
        return written(data.solution())

    def prompt(self, data: EquationsData, language: Language, random: Random) -> str:
        equations = (", " if language == "en" else "，").join(map(str, data.equations))
        prompts = WORDING.one_unknown if len(data.equations) == 1 else WORDING.two_unknowns
        return random.choice(prompts[language]).format(equations)

    def mistake(self, data: EquationsData, answer: str) -> str | None:
        solution = data.solution()
        return None if _read(answer, len(solution)) == solution else "not the solution"

    def _equation(self, random: Random, solution: list[int]) -> Equation:
        """An equation that the solution satisfies; with `fractions`, one that it need not satisfy."""
        options = self.options
        left = [self._coefficient(random) for _ in solution]
        right = [0] * len(solution)
        constant = 0
        if len(solution) == 1:
            constant = self._number(random)
            if options.both_sides:
                right = [self._coefficient(random)]
        balance = sum((a - b) * value for a, b, value in zip(left, right, solution, strict=True)) + constant
        return Equation(left=[*left, constant], right=[*right, self._number(random) if options.fractions else balance])

    def _coefficient(self, random: Random) -> int:
        size = random.randint(1, self.options.largest_coefficient)
        return -size if self.options.negatives and random.random() < 0.3 else size

    def _number(self, random: Random) -> int:
        largest = self.options.largest_number
        return random.randint(-largest if self.options.negatives else 0, largest)


def solve_linear(equations: list[Equation]) -> list[Fraction] | None:
    """The values of the unknowns by Cramer's rule; None unless there is exactly one solution."""
    rows = [[a - b for a, b in zip(e.left, e.right, strict=True)] for e in equations]
    if len(rows) == 1:
        ((a, k),) = rows
        return [Fraction(-k, a)] if a else None
    (a, b, k), (c, d, m) = rows
    determinant = a * d - b * c
    if not determinant:
        return None
    return [Fraction(b * m - d * k, determinant), Fraction(c * k - a * m, determinant)]


def _read(answer: str, unknowns: int) -> list[Fraction]:
    """The values in `x=3, y=-2` (any order), or in `3` where there is one unknown."""
    text = plain(answer)
    if unknowns == 1 and "=" not in text:
        return [parse_number(text)]
    values: dict[str, Fraction] = {}
    for part in _SEPARATOR.split(text):
        name, _, value = part.partition("=")
        if name.strip() in values:
            raise ExpressionError(f"gives {name.strip()} twice")
        values[name.strip()] = parse_number(value)
    if set(values) != set(UNKNOWNS[:unknowns]):
        raise ExpressionError(f"does not give the values of {' and '.join(UNKNOWNS[:unknowns])}")
    return [values[name] for name in UNKNOWNS[:unknowns]]


def written(solution: Sequence[Fraction | int]) -> str:
    """The values of the unknowns as an answer: `x=3, y=-2`."""
    return ", ".join(f"{name}={value}" for name, value in zip(UNKNOWNS, solution, strict=False))


def _side(numbers: list[int]) -> str:
    """`[3, -1, 2]` as `3x-y+2`."""
    text = ""
    for coefficient, name in zip(numbers, [*UNKNOWNS[: len(numbers) - 1], ""], strict=True):
        if coefficient:
            text += term(coefficient, "+" if text else "", name)
    return text or "0"


def term(coefficient: Fraction | int, sign: str = "", name: str = "x") -> str:
    """3 as `3x`, -1 as `-x`; `sign` stands before what is not negative."""
    size = "" if name and abs(coefficient) == 1 else str(abs(coefficient))
    return ("-" if coefficient < 0 else sign) + size + name


def short_fields(data: Mapping[str, Any]) -> dict[str, str]:
    """The gap of the short forms: the equations of a problem's data."""
    return {"equations": ", ".join(str(Equation.model_validate(equation)) for equation in data["equations"])}
