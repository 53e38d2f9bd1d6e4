"""The reader and the writer of expressions: exact, strict, bounded."""

import re
from fractions import Fraction
from time import process_time

import pytest
from expression_cases import Tree, fully_wrapped, literals, written
from hypothesis import given
from hypothesis import strategies as st

from longjing.problems.expression import MAX_DEPTH, MAX_LENGTH, ExpressionError, parse_expression, parse_number

trees = st.recursive(st.integers(-99, 99), lambda sub: st.tuples(sub, st.sampled_from("+-*/"), sub), max_leaves=8)


def value(tree: Tree, seen: list[Fraction]) -> Fraction:
    """The oracle: Python's own arithmetic, noting each intermediate value; a negative number is made by its sign."""
    if isinstance(tree, int):
        seen += [Fraction(tree)] if tree < 0 else []
        return Fraction(tree)
    left, operator, right = tree
    a, b = value(left, seen), value(right, seen)
    result = {"+": lambda: a + b, "-": lambda: a - b, "*": lambda: a * b, "/": lambda: a / b}[operator]()
    seen.append(result)
    return result


@given(trees)
def test_reader_agrees_with_fractions_and_with_the_writer(tree: Tree) -> None:
    seen: list[Fraction] = []
    short, long = written(tree).text, fully_wrapped(tree)
    try:
        expected = value(tree, seen)
    except ZeroDivisionError:
        for text in (short, long):
            with pytest.raises(ExpressionError, match="division by zero"):
                parse_expression(text)
        return
    for text in (short, long):
        read = parse_expression(text)
        assert read.value == expected
        assert list(read.intermediates) == seen
        assert list(read.literals) == literals(tree)


@given(trees)
def test_no_parentheses_are_redundant(tree: Tree) -> None:
    """Taking any one pair away changes the operations, or leaves no expression."""
    text, _, parentheses = written(tree)
    assert text.count("(") == parentheses
    opened: list[int] = []
    for at, sign in enumerate(text):
        if sign == "(":
            opened.append(at)
        elif sign == ")":
            start = opened.pop()
            if text[start + 1] != "-":  # the sign of a negative number keeps its own pair
                without = text[:start] + text[start + 1 : at] + text[at + 1 :]
                assert operations(without) != operations(text)


def operations(text: str) -> list[tuple[str, ...]]:
    """Which operations are done on which operands, by the shunting-yard algorithm: an independent reader."""
    output: list[str] = []
    stack: list[str] = []
    done: list[tuple[str, ...]] = []
    rank = {"+": 1, "-": 1, "*": 2, "/": 2}

    def apply() -> None:
        right, left = output.pop(), output.pop()
        done.append((left, stack.pop(), right))
        output.append(f"<{''.join(done[-1])}>")

    for token in re.findall(r"(?<![\d)])-\d+|\d+|[-+*/()]", text):
        if token == "(":
            stack.append(token)
        elif token == ")":
            while stack[-1] != "(":
                apply()
            stack.pop()
        elif token in rank:
            while stack and rank.get(stack[-1], 0) >= rank[token]:
                apply()
            stack.append(token)
        else:
            output.append(token)
    while stack:
        apply()
    return done


@given(trees)
def test_variants_of_the_signs_read_the_same(tree: Tree) -> None:
    text = written(tree).text
    full_width = text.translate({ord(c): ord(c) + 0xFEE0 for c in "0123456789+-*/()"})
    typographic = text.translate(str.maketrans({"*": "×", "/": "÷", "-": "−"}))
    latex = text.replace("*", "\\times ").replace("/", "\\div ").replace("(", "\\left(").replace(")", "\\right)")

    def outcome(text: str) -> object:
        try:
            return parse_expression(text)
        except ExpressionError:
            return None

    if len(latex) <= MAX_LENGTH:
        assert outcome(text) == outcome(full_width) == outcome(typographic) == outcome(latex)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5+.5", None),
        ("0.5+1.25", Fraction(7, 4)),
        ("\\frac{1}{2}+\\dfrac{3}{4}", Fraction(5, 4)),
        ("2*-3", Fraction(-6)),
        ("+".join(["(1)"] * 99), Fraction(99)),
        ("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH, Fraction(1)),
        (" 1 +\t2 ", Fraction(3)),
        ("", None),
        ("1 2", None),
        ("2(3)", None),
        ("(1+2", None),
        ("1+2)", None),
        ("1+", None),
        ("+1", None),
        ("2**3", None),
        ("7//2", None),
        ("1_000", None),
        ("1e3", None),
        ("0x10", None),
        ("x", None),
        ("{1}", None),
        ("__import__('os')", None),
        ("٣+٤", None),
        ("1\x00+2", None),
        ("1+2=3", None),
    ],
)
def test_what_is_an_expression(text: str, expected: Fraction | None) -> None:
    if expected is None:
        with pytest.raises(ExpressionError):
            parse_expression(text)
    else:
        assert parse_expression(text).value == expected


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4))
def test_numbers_read_exactly_and_only_in_lowest_terms(top: int, bottom: int) -> None:
    fraction = Fraction(top, bottom)
    assert parse_number(str(fraction)) == fraction
    if bottom > 1 and fraction.denominator == bottom:
        assert parse_number(f"{'-' if top < 0 else ''}\\frac{{{abs(top)}}}{{{bottom}}}") == fraction
    else:
        with pytest.raises(ExpressionError):
            parse_number(f"{top}/{bottom}")


@given(st.decimals(-1000, 1000, places=4))
def test_decimals_read_exactly(decimal: object) -> None:
    assert parse_number(format(decimal, "f")) == Fraction(str(decimal))


@pytest.mark.parametrize("text", ["", "-", "3+4", "--3", "1/0", "4/2", "3/1", "1/2/3", "1,000", "3 apples", "٣", "½"])
def test_what_is_not_a_number(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_number(text)


HOSTILE = [
    "(" * 10**6,
    "(" * (MAX_LENGTH // 2) + "1" + ")" * (MAX_LENGTH // 2 - 1),
    "-" * MAX_LENGTH,
    "-" * (MAX_DEPTH + 1) + "1",
    "\\frac{" * (MAX_LENGTH // 6),
    "9" * 10**6,
    "9" * MAX_LENGTH,
    "0." + "9" * 100,
    "*".join(["9" * 20] * 24),
    "/".join(["9" * 20, "7" * 19] * 12),
    "+".join(f"1/{n}" for n in range(101, 180)),
    "1+" * 10**6,
    " " * 10**6,
    "\x00" * 500,
    "（" * MAX_LENGTH,
    "\ud800",
    "１" * 10**6,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("read", [parse_expression, parse_number])
def test_hostile_text_costs_little(read: object, text: str) -> None:
    start = process_time()
    try:
        read(text)  # type: ignore[operator]
    except ExpressionError as error:
        assert len(str(error)) < 200
    assert process_time() - start < 0.5


@given(st.text(alphabet="0123456789+-*/()., =x\\{}×÷（）\x00", max_size=60) | st.text(max_size=60))
def test_reading_never_fails_in_any_other_way(text: str) -> None:
    for read in (parse_expression, parse_number):
        try:
            read(text)
        except ExpressionError:
            continue
