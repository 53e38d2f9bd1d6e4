"""Arithmetic expressions: a strict, exact, bounded reader, and a writer without redundant parentheses.

The reader is a recursive descent over

    sum     = product { ("+" | "-") product }
    product = unary { ("*" | "/") unary }
    unary   = "-" unary | number | "(" sum ")" | "\\frac" "{" sum "}" "{" sum "}"
    number  = digits [ "." digits ]

with `fractions.Fraction` for every value. It never evaluates text as Python, and its limits on length, depth
and digits bound the time that any text can cost.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from math import gcd
from operator import add, mul, sub, truediv
from typing import Any, NamedTuple

MAX_LENGTH = 512  # characters of one answer
MAX_DEPTH = 40  # nested parentheses and signs
MAX_DIGITS = 20  # of one number, on either side of the point

APPLY: dict[str, Callable[[Any, Any], Any]] = {"+": add, "-": sub, "*": mul, "/": truediv}
BINDING = {"+": 1, "-": 1, "*": 2, "/": 2}
_ATOM = 3  # what binds tighter than any of them

_SIGNS = str.maketrans(
    {
        **{chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)},  # the full-width forms of ASCII
        "\u3000": " ", "\u00a0": " ", "、": ",",
        "×": "*", "·": "*", "⋅": "*", "∙": "*", "∗": "*", "✕": "*", "✖": "*",
        "÷": "/", "∕": "/", "⁄": "/", "➗": "/",
        "−": "-", "–": "-", "➖": "-", "➕": "+",
    }
)  # fmt: skip
_LATEX = {"\\times": "*", "\\cdot": "*", "\\div": "/", "\\dfrac": "\\frac", "\\left(": "(", "\\right)": ")"}
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d+)?)|(\\frac|[-+*/(){}]))", re.ASCII)
_NUMBER = re.compile(r"(-?)\s*(?:(\d+(?:\.\d+)?)|(\d+)\s*/\s*(\d+)|\\frac\{(\d+)\}\{(\d+)\})", re.ASCII)


class ExpressionError(ValueError):
    """The text is not an expression that can be read; the message says why."""


class Expression(NamedTuple):
    """What an expression says: its value, its number literals, and the result of each operation (a sign is one), in the
    order in which it is read: left to right, as precedence and parentheses say."""

    value: Fraction
    literals: tuple[Fraction, ...]
    intermediates: tuple[Fraction, ...]


def plain(text: str) -> str:
    """`text` with the typographic, full-width and LaTeX variants of signs replaced by ASCII.

    Raises ExpressionError if it is longer than MAX_LENGTH, so that nothing after this call has to care.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters")
    if not text.isascii():
        text = text.translate(_SIGNS)
    if "\\" in text:
        for name, sign in _LATEX.items():
            text = text.replace(name, sign)
    return text.strip()


def parse_expression(text: str) -> Expression:
    """Read `text` as one expression. Raises ExpressionError if any of it does not belong to one."""
    return _Reader(plain(text)).read()


def parse_number(text: str) -> Fraction:
    """Read one number: an integer, a decimal or a fraction (`-3`, `0.5`, `3/4`, `\\frac{3}{4}`).

    A fraction must be in lowest terms: otherwise copying the division that was asked for would answer it.
    Raises ExpressionError for anything else.
    """
    match = _NUMBER.fullmatch(plain(text))
    if match is None:
        raise ExpressionError(f"not a number: {_excerpt(text)}")
    sign, decimal, *halves = match.groups()
    if decimal is not None:
        value = _literal(decimal)
    else:
        top, bottom = (int(_literal(half)) for half in halves if half is not None)
        if bottom < 2 or gcd(top, bottom) != 1:
            raise ExpressionError(f"not in lowest terms: {_excerpt(text)}")
        value = Fraction(top, bottom)
    return -value if sign else value


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ExpressionError(f"not an expression at: {_excerpt(text[at:])}")
            self.tokens.append(match[1] or match[2])
            at = match.end()
        self.tokens.append("")  # the end
        self.at = 0
        self.depth = 0
        self.literals: list[Fraction] = []
        self.intermediates: list[Fraction] = []

    def read(self) -> Expression:
        value = self.operations()
        self.expect("")
        return Expression(value, tuple(self.literals), tuple(self.intermediates))

    def operations(self, binding: int = BINDING["+"]) -> Fraction:
        """A sum, or what binds as tightly as `binding` says: a product, a unary."""
        if binding == _ATOM:
            return self.unary()
        value = self.operations(binding + 1)
        while BINDING.get(sign := self.tokens[self.at]) == binding:
            self.at += 1
            value = self.apply(value, sign, self.operations(binding + 1))
        return value

    def unary(self) -> Fraction:
        token = self.tokens[self.at]
        self.at += 1
        if token[:1].isdigit():
            self.literals.append(_literal(token))
            return self.literals[-1]
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"nested deeper than {MAX_DEPTH}")
        if token == "-":
            value = self.apply(Fraction(0), "-", self.unary())
        elif token == "(":
            value = self.operations()
            self.expect(")")
        elif token == "\\frac":
            value = self.apply(self.braced(), "/", self.braced())
        else:
            raise ExpressionError(f"a number was expected, not {token or 'the end'!r}")
        self.depth -= 1
        return value

    def braced(self) -> Fraction:
        self.expect("{")
        value = self.operations()
        self.expect("}")
        return value

    def apply(self, left: Fraction, operator: str, right: Fraction) -> Fraction:
        if operator == "/" and not right:
            raise ExpressionError("division by zero")
        self.intermediates.append(APPLY[operator](left, right))
        return self.intermediates[-1]

    def expect(self, token: str) -> None:
        if self.tokens[self.at] != token:
            actual = self.tokens[self.at] or "the end"
            raise ExpressionError(f"{token or 'the end'!r} was expected, not {actual!r}")
        self.at += 1


def _literal(digits: str) -> Fraction:
    integer, _, decimals = digits.partition(".")
    if max(len(integer), len(decimals)) > MAX_DIGITS:
        raise ExpressionError(f"a number of more than {MAX_DIGITS} digits")
    return Fraction(int(integer + decimals), 10 ** len(decimals)) if decimals else Fraction(int(integer))


def _excerpt(text: str) -> str:
    return ascii(text[:20])


class Written(NamedTuple):
    """An expression as text, with how tightly its outermost operation binds and its pairs of parentheses."""

    text: str
    binding: int
    parentheses: int


def number(value: int) -> Written:
    """`value` as an expression. A negative one binds like a sum, so that it is wrapped where it must be."""
    return Written(str(value), _ATOM if value >= 0 else BINDING["-"], 0)


def join(left: Written, operator: str, right: Written) -> Written:
    """`left operator right`, with just the parentheses that make it read back as these very operations."""
    binding = BINDING[operator]
    # Operations group from the left, so what binds as tightly needs parentheses on the right only: a-b-c, a-(b-c).
    wrap_left, wrap_right = left.binding < binding, right.binding <= binding
    text_left = f"({left.text})" if wrap_left else left.text
    text_right = f"({right.text})" if wrap_right else right.text
    parentheses = left.parentheses + right.parentheses + wrap_left + wrap_right
    return Written(text_left + operator + text_right, binding, parentheses)
