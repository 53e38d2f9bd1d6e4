"""Arithmetic: what is the value of an expression of non-negative integers with + - * /?"""

from fractions import Fraction
from random import Random
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from longjing.problems import GeneratedTask, Language, ProblemData, TaskSettings
from longjing.problems.expression import APPLY, Written, join, number, parse_expression, parse_number
from longjing.toys.prose import Wording, read_difficulties
from longjing.validation import read_yaml

WORDING = read_yaml(__file__, "prompts.yaml", Wording)


class ArithmeticSettings(TaskSettings):
    """`terms` numbers of up to `digits` digits, joined by some of the `operations`.

    Without `fractions` every division comes out even. No value on the way has more than twice `digits`
    digits, and no denominator more than two.
    """

    difficulties: ClassVar = read_difficulties(__file__)

    digits: int = Field(ge=1, le=9)
    operations: str = Field(pattern=r"^[-+*/]+$", max_length=4)
    terms: int = Field(ge=2, le=4)
    fractions: bool

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.fractions and "/" not in self.operations:
            raise ValueError(f"fractions can't appear: operations {self.operations!r} lacks '/'")
        return self


def _readable(expression: str) -> str:
    parse_expression(expression)
    return expression


class ArithmeticData(ProblemData):
    """The expression that is asked for."""

    expression: Annotated[str, AfterValidator(_readable)]


class Arithmetic(GeneratedTask[ArithmeticSettings, ArithmeticData]):
    """What is the value of an expression?"""

    name = "arithmetic"
    settings_type = ArithmeticSettings
    data_type = ArithmeticData
    wording = WORDING

    def draw(self, random: Random) -> ArithmeticData | None:
        grown = self._grow(random, self.options.terms)
        if grown is None or grown[0].text == str(grown[1]):  # 3/4 would be its own answer
            return None
        return ArithmeticData(expression=grown[0].text)

    def key(self, data: ArithmeticData) -> str:
        value, literals, _ = parse_expression(data.expression)
        operators = sorted(sign for sign in data.expression if sign in "+-*/")
        return f"{' '.join(map(str, sorted(literals)))} {''.join(operators)} {value}"

    def answer(self, data: ArithmeticData) -> str:
        return str(parse_expression(data.expression).value)

    def prompt(self, data: ArithmeticData, language: Language, random: Random) -> str:
        return random.choice(self.wording.prompts[language]).format(data.expression)

    def mistake(self, data: ArithmeticData, answer: str) -> str | None:
        correct = parse_number(answer) == parse_expression(data.expression).value
        return None if correct else "not the value of the expression"

    def _grow(self, random: Random, terms: int) -> tuple[Written, Fraction] | None:
        """A random expression and its value; None if it divides by zero or leaves the bounds."""
        if terms == 1:
            literal = self._literal(random)
            return number(literal), Fraction(literal)
        operator = random.choice(self.options.operations)
        if operator == "/" and not self.options.fractions:
            return self._even_division(random, terms)
        size = random.randrange(1, terms)
        left, right = self._grow(random, terms - size), self._grow(random, size)
        if left is None or right is None or (operator == "/" and not right[1]):
            return None
        (left_text, a), (right_text, b) = left, right
        value = APPLY[operator](a, b)
        if abs(value) >= 100**self.options.digits or value.denominator >= 100:
            return None
        return join(left_text, operator, right_text), value

    def _even_division(self, random: Random, terms: int) -> tuple[Written, Fraction] | None:
        """An expression of `terms - 1` numbers, divided by one of its divisors."""
        largest = 10**self.options.digits - 1
        if terms == 2:
            divisor = self._literal(random) or 1
            value = Fraction(divisor * random.randint(1, largest // divisor))
            left = number(int(value))
        else:
            grown = self._grow(random, terms - 1)
            if grown is None:
                return None
            left, value = grown
            divisors = [n for n in range(2, min(largest, 99) + 1) if value % n == 0]
            if not value or not divisors:
                return None
            divisor = random.choice(divisors)
        return join(left, "/", number(divisor)), value / divisor

    def _literal(self, random: Random) -> int:
        length = random.randint(1, self.options.digits)
        return random.randint(10 ** (length - 1) if length > 1 else 0, 10**length - 1)
