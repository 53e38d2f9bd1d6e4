"""Solvers of sums: somebody with a style, a language and a hand that slips, who calculates in small steps.

They do arithmetic, equations and word problems. Which of them writes does not depend on the problem, so a model that
has read them all samples among them.
"""

from collections.abc import Callable
from fractions import Fraction
from random import Random

from longjing.toys.prose import OTHER, Bilingual
from longjing.validation import read_yaml

Value = int | Fraction
Values = list[Value]
Operate = Callable[[Value, str, Value], Value]
Phrases = Bilingual[dict[str, list[str]]]

# How often each way is met, and how often its answer (the first two) or one step (the others) errs.
STYLES = {"guess": 0.35, "direct": 0.2, "steps": 0.3, "checked": 0.15}
SLIPS = {"guess": 0.85, "direct": 0.3, "steps": 0.01, "checked": 0.04}
_CAUGHT = 0.5  # of the slips of those who check are caught at once; the check at the end finds the others

PHRASES = read_yaml(__file__, "phrases.yaml", Phrases)


class Solver:
    """Somebody with a style, a language and a hand that slips; `lines` is what they have written."""

    def __init__(self, language: str, random: Random) -> None:
        self.random = random
        self.style = random.choices(list(STYLES), list(STYLES.values()))[0]
        languages = [language, OTHER[language]]
        self.languages = random.choices([languages[:1], languages[1:], languages], [0.85, 0.1, 0.05])[0]
        self.slip = SLIPS[self.style]
        self.brief = False  # one step for every operation
        self.lines: list[str] = []
        self.steps: list[str] = []

    def say(self, phrases: Phrases, kind: str, *values: object) -> str:
        """One of the phrases of a kind, in one of the solver's languages, with its gaps filled."""
        return self.random.choice(phrases[self.random.choice(self.languages)][kind]).format(*values)

    def near(self, value: Value) -> Value:
        """A wrong value that looks like the right one: as a rule of the same sign, and never zero."""
        distances = [-2, -1, 1, 2] if -10 < value < 10 else [-10, -2, -1, 1, 2, 10]
        wrong = value + self.random.choice(distances)
        return wrong if wrong * value > 0 else value + (1 if value >= 0 else -1)

    def step(self, left: str, value: Value) -> Value:
        """Write `left=value` and return what this solver believes; the careful catch some of their slips."""
        if self.random.random() >= self.slip:
            self.steps.append(f"{left}={value}")
            return value
        wrong = self.near(value)
        self.steps.append(f"{left}={wrong}")
        if self.style == "checked" and self.random.random() < _CAUGHT:
            self.steps[-1] += f". {self.say(PHRASES, 'wait')}{left}={value}"
            return value
        return wrong

    def plain(self, a: Value, operator: str, b: Value) -> Value:
        """Take the step `a operator b`."""
        return self.step(shown(a, operator, b), operate(a, operator, b))

    def end_line(self, head: str = "", tail: str = "") -> None:
        """Make one line of the steps since the last one."""
        self.lines.append(head + ", ".join(self.steps) + tail)
        self.steps = []

    def calculate(self, a: Value, operator: str, b: Value, label: str = "") -> Value:
        """Write a line that works out `a operator b`, in small steps and on magnitudes unless it is easy."""
        sign, x, kind, y = _magnitudes(a, operator, b)
        if self.brief or not (isinstance(x, int) and isinstance(y, int)) or _easy(x, kind, y):
            value = self.plain(a, operator, b)
            self.end_line(label)
            return value
        value = sign * _METHODS[kind](self, x, y)
        operation, long = shown(a, operator, b), f"{x}{kind}{y}"
        rewritten = f"=-({long})" if sign < 0 else "" if operation == long else f"={long}"
        conclusion = "" if self.steps[-1].endswith(f"={value}") else f", {value}"
        self.end_line(f"{label}{operation}{rewritten}: ", conclusion)
        return value


def operate(a: Value, operator: str, b: Value) -> Value:
    """Exactly, as an int where it is one. Dividing by zero, which only a slip can bring about, gives zero."""
    value: Value
    match operator:
        case "+":
            value = a + b
        case "-":
            value = a - b
        case "*":
            value = a * b
        case _:
            value = Fraction(a) / b if b else 0
    return int(value) if value.denominator == 1 else value


def shown(a: Value, operator: str, b: Value) -> str:
    """`a operator b`, the right operand in parentheses unless it is a natural number."""
    return f"{a}{operator}{b}" if b >= 0 and b.denominator == 1 else f"{a}{operator}({b})"


def claim(a: Value, operator: str, b: Value) -> str:
    """`a operator b=` and what it comes to."""
    return f"{shown(a, operator, b)}={operate(a, operator, b)}"


def _magnitudes(a: Value, operator: str, b: Value) -> tuple[int, Value, str, Value]:
    """`a operator b` as a sign and an operation on numbers that aren't negative: 12-47 as -1, 47, -, 12."""
    value = operate(a, operator, b)
    x, y = (a if a >= 0 else -a), (b if b >= 0 else -b)
    if operator in "+-":
        # -12-47 adds magnitudes, 12-47 subtracts the smaller one: the value tells which.
        operator = "+" if value in (x + y, -x - y) else "-"
        if operator == "-" and x < y:
            x, y = y, x
    return (-1 if value < 0 else 1), x, operator, y


def _parts(number: int) -> list[int]:
    """305 as 300 and 5."""
    parts = [int(digit) * 10**zeros for zeros, digit in enumerate(reversed(str(number))) if digit != "0"]
    return parts[::-1] or [0]


def _easy(x: int, operator: str, y: int) -> bool:
    """Whether one step does."""
    if operator == "/":
        return x == 0 or y < 2 or x % y > 0 or (y < 10 and x // y < 10)
    if operator == "*":
        return min(x, y) < 2 or len(_parts(x)) == len(_parts(y)) == 1
    return len(_parts(y)) == 1


def _jump(solver: Solver, x: int, operator: str, y: int) -> Value:
    """47+38 as 47+30=77, 77+8=85."""
    value: Value = x
    for part in _parts(y):
        value = solver.plain(value, operator, part)
    return value


def _add(solver: Solver, x: int, y: int) -> Value:
    """In jumps, or numbers of two digits by places: 40+30=70, 7+8=15, 70+15=85."""
    if not 10 < x < 100 or y >= 100 or solver.random.random() < 0.5:
        return _jump(solver, x, "+", y)
    tens = solver.plain(x // 10 * 10, "+", y // 10 * 10)
    return solver.plain(tens, "+", solver.plain(x % 10, "+", y % 10))


def _multiply(solver: Solver, x: int, y: int) -> Value:
    """By partial products: 47*36 as 40*30, 7*30, ...; 347*26 as 347*20, 347*6, for there would be many."""
    xs, ys = sorted((_parts(x), _parts(y)), key=len, reverse=True)
    if len(xs) * len(ys) > 4:
        xs = [sum(xs)]
    total = solver.plain(xs[0], "*", ys[0])
    for left, right in [(left, right) for right in ys for left in xs][1:]:
        total = solver.plain(total, "+", solver.plain(left, "*", right))
    return total


def _divide(solver: Solver, x: int, y: int) -> Value:
    """By trying products: 972/36 as 36*20=720, 972-720=252, 36*7=252, 20+7=27."""
    rest: Value = x
    total: Value = 0
    while rest >= y:
        part = _parts(int(rest // y))[0]
        solver.steps.append(claim(y, "*", part))  # a product that has been tried is right
        rest = solver.plain(rest, "-", y * part) if rest != y * part else 0
        total = solver.plain(total, "+", part) if total else part
    return total


_METHODS: dict[str, Callable[[Solver, int, int], Value]] = {
    "+": _add,
    "-": lambda solver, x, y: _jump(solver, x, "-", y),
    "*": _multiply,
    "/": _divide,
}
