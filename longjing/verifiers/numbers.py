"""Answers that are numbers, or expressions with a number's value: read exactly, by the package's own small readers."""

import re
from decimal import Decimal
from fractions import Fraction
from unicodedata import normalize

from pydantic import Field

from longjing.problems import Problem
from longjing.problems.expression import ExpressionError, parse_expression, parse_number, plain
from longjing.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.verifiers.pool import VerifierError

_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:(?P<mark>,|\{,\}|\\,| )\d{3})(?:(?P=mark)\d{3})*(?:\.\d+)?", re.ASCII)
_SCIENTIFIC = re.compile(
    r"([-+]?\d{1,20}(?:\.\d{1,20})?)\s*(?:[eE]|(?:\*|\\times|\\cdot)\s*10\s*\^)\s*\{?\s*([-+]?\d{1,3})\s*\}?", re.ASCII
)
_MARKS = re.compile(r",|\{,\}|\\,| ")
_SIGNED = re.compile(r"(-?)\\frac ?(?:\{ ?(-?)(\d{1,20}) ?\}|(\d)) ?(?:\{ ?(-?)(\d{1,20}) ?\}|(\d))", re.ASCII)
_POINT = re.compile(r"[-+]?\.\d", re.ASCII)


def read_number(text: str) -> Fraction:
    """`parse_number` that knows thousands separators, scientific notation, full-width digits, a sign within a fraction,
    dollars and `.5`, too.

    Raises ExpressionError for anything else.
    """
    text = plain(normalize("NFKC", text[:600]).replace("\\!", "")).replace("\\tfrac", "\\frac").replace("\\$", "$")
    text = text.removeprefix("\\(").removesuffix("\\)").strip("$ ").removesuffix(".")
    text = text.replace("-$", "-", 1) if text.startswith("-$") else text
    if match := _SCIENTIFIC.fullmatch(text.replace("*10", "\\times 10") if "*10" in text else text):
        return Fraction(Decimal(match[1])) * Fraction(10) ** int(match[2])
    if match := _SIGNED.fullmatch(text):
        minus = "-" * ((match[1] + (match[2] or "") + (match[5] or "")).count("-") % 2)
        text = f"{minus}{match[3] or match[4]}/{match[6] or match[7]}"
    if _THOUSANDS.fullmatch(text):
        text = _MARKS.sub("", text)
    if _POINT.match(text):
        text = text.replace(".", "0.", 1)
    return parse_number(text.removeprefix("+"))


class NumberSettings(AnswerSettings):
    """The answer may be off by either tolerance."""

    absolute: float = Field(0.0, ge=0, description="difference that still counts as right")
    relative: float = Field(0.0, ge=0, lt=1, description="the same, as a share of the right number")


class Number(AnswerVerifier[NumberSettings]):
    """One number: `-3`, `1,234.5`, `3/4`, `1.5e3`. Exact, unless a tolerance is stated."""

    name = "number"
    settings_type = NumberSettings

    def compare(self, problem: Problem, answer: str) -> Judgement:
        gold = _gold(problem)
        try:
            difference = abs(read_number(answer) - gold)
        except ExpressionError as error:
            return Judgement("wrong", 0.0, str(error))
        allowed = max(Fraction(self.options.absolute), abs(gold) * Fraction(self.options.relative))
        return Judgement.of(difference <= allowed, "another number")


class ExpressionValue(AnswerVerifier[AnswerSettings]):
    """An arithmetic expression with the right value: `(3+4)*2`. The problem's own expression would do; where that is
    no answer, `number` is the verifier."""

    name = "expression"
    settings_type = AnswerSettings

    def compare(self, problem: Problem, answer: str) -> Judgement:
        gold = _gold(problem)
        try:
            return Judgement.of(parse_expression(answer).value == gold, "another value")
        except ExpressionError as error:
            return Judgement("wrong", 0.0, str(error))


def _gold(problem: Problem) -> Fraction:
    try:
        return read_number(problem.answer)
    except ExpressionError:
        pass
    try:
        return parse_expression(problem.answer).value
    except ExpressionError as error:
        raise VerifierError(f"the gold answer can't be read: {error}") from None
