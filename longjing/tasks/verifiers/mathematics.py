"""Whether two mathematical answers say the same: `math-verify` and SymPy, and rules where those are known to err.

`math-verify` reads what it can and drops the rest, which makes false verdicts of both kinds: `6=5` says 5, `5 cm` is
`5 m`, `3 1/2` is 2, `(1,2)` is `{1,2}`, and `5.` isn't 5. So numbers, units, words, lists and equations are decided by
rules first; the corpus in `tests/tasks/verdicts.jsonl` has a decision for each kind. What is left is asked of
`math-verify`, in a process that can be killed.
"""

import re
from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from unicodedata import normalize

from pydantic import Field

from longjing.errors import UserError
from longjing.tasks.base import Problem
from longjing.tasks.expression import ExpressionError
from longjing.tasks.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.tasks.verifiers.numbers import read_number
from longjing.tasks.verifiers.pool import shared

_LONGEST = 2_000  # characters of an answer; no right one has been seen that is longer
_SPACES = re.compile(r"\\[,;:! ]|\\quad|\\qquad|~|\s+")
_FRAMES = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))
_HAN = r"[\u4e00-\u9fff]"
_WORDS = re.compile(rf"[A-Za-z]{{3,}}(?:[ '-]?[A-Za-z]+)*|[A-Z]{{2,}}|{_HAN}+")
_DATE = re.compile(r"\d{1,4}-\d{1,2}-\d{1,4}|\d{1,2}:\d\d(?::\d\d)?(?: ?[ap]m)?", re.IGNORECASE)
_DOTS = re.compile(r"\\[lcd]?dots|\.\.\.|…")
# What turns a statement around, or makes another of it.
_STATEMENTS = ("\\neq", "\\ne ", "≠", "\\not", "\\to", "\\rightarrow", "→", "\\forall", "\\exists")
_INEQUALITIES = ("<", ">", "\\le ", "\\leq", "\\ge ", "\\geq", "\\lt", "\\gt", "≤", "≥")
_UNIT = re.compile(
    r"(?P<number>.*?[\d}])\s*(?P<unit>\^?\{?\\circ\}?|°|\\(?:text|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?"
    rf"|[A-Za-z][A-Za-z/ ]*(?:\^\{{?[23]\}}?)?\.?|{_HAN}+|\\?%)", re.DOTALL
)  # fmt: skip
_MONEY = re.compile(r"(?:\\?\$|\\text\{\$\}|€|£|¥|￥)\s*")
_MIXED = re.compile(
    r"(-?)(\d{1,9})\s*(?:\s(\d{1,9})\s*/\s*(\d{1,9})|\\[dt]?frac\{(\d{1,9})\}\{(\d{1,9})\})", re.ASCII
)
_FRACTION = re.compile(
    r"(-?)\s*(?:\\frac\{(-?\d{1,20})\}\{(\d{1,20})\}|(\d{1,20})\s*/\s*(\d{1,20}))", re.ASCII
)
# Words beside an answer, which algebra would leave out; functions may be written without a backslash.
_PROSE = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sqrt|sinh|cosh|tanh|arc\w+|asin|acos|atan|frac|circ)\b)[A-Za-z]{4,}"
)
_APART = re.compile(r"\d\s+\d")
_VARIABLE = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?:\([A-Za-z, ]*\))?|\\angle\s*[A-Za-z]+")
_SYNONYMS = {
    "all real numbers": "\\mathbb{R}", "all reals": "\\mathbb{R}", "no solution": "\\emptyset",
    "no solutions": "\\emptyset", "empty set": "\\emptyset", "infinity": "\\infty",
}  # fmt: skip


@cache
def _installed() -> bool:
    return find_spec("math_verify") is not None


class Algebra:
    """Compares answers, each pair in at most `seconds`; of all threads and tasks that use it, the processes are shared.

    Raises UserError where `math-verify` isn't installed.
    """

    def __init__(self, seconds: float = 5.0, megabytes: int = 1024) -> None:
        if not _installed():
            raise UserError("judging mathematics needs math-verify: pip install 'longjing[eval]'")
        self.pool = shared("mathematics", seconds, megabytes)

    def equal(self, gold: str, answer: str) -> bool:
        """Whether `answer` says what `gold` says. Raises VerifierError if nobody knows."""
        gold, answer = _plain(gold), _plain(answer)
        if not answer or len(answer) > _LONGEST:
            return False
        if gold == answer:
            return True
        decided = _by_rule(gold, answer)
        if decided is not None:
            return decided
        if "=" in answer and "=" not in gold:
            return self._chain(gold, answer)
        return bool(self.pool.ask(gold, answer, _solved(answer)))

    def _chain(self, gold: str, answer: str) -> bool:
        """`x=5` and `2+3=5` say 5, `6=5` and `2+2=5` don't: all but a name in front must say it."""
        first, *rest = (part.strip() for part in answer.split("="))
        parts = rest if _VARIABLE.fullmatch(first) and first != gold else [first, *rest]
        return all(part and self.equal(gold, part) for part in parts)


class MathSettings(AnswerSettings):
    seconds: float = Field(5.0, gt=0, description="that a verdict may take; then it is `unjudged`")
    megabytes: int = Field(1024, ge=256, description="that its process may take")


class Math(AnswerVerifier[MathSettings]):
    """Mathematics in LaTeX: numbers, expressions, equations, sets, intervals, matrices."""

    name = "math"
    settings_type = MathSettings

    def __init__(self, settings: MathSettings) -> None:
        super().__init__(settings)
        self._algebra = Algebra(settings.seconds, settings.megabytes)
        self.concurrency = self._algebra.pool.size

    def compare(self, problem: Problem, answer: str) -> Judgement:
        return Judgement.of(self._algebra.equal(problem.answer, answer), "another answer")


def _plain(text: str) -> str:
    """Without what surrounds an answer and says nothing: dollars, stars, full stops, white space of LaTeX."""
    if len(text) > 4 * _LONGEST:
        return text
    text = normalize("NFKC", text).translate({0x2212: "-", 0x2013: "-", 0x3002: ".", 0x2061: None})
    text = re.sub(r"\\(?:left|right|displaystyle|mathrm\{~\}|mathrm\s*(?=\{e\}))", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"\\(?:mathrm|mathbf|mathit|operatorname)\{([A-Za-z])\}", r"\1", text)
    text = _SPACES.sub(" ", text).strip()
    before = None
    while before != text:
        before = text
        for start, end in _FRAMES:
            if len(text) > len(start + end) and text.startswith(start) and text.endswith(end):
                inner = text[len(start) : -len(end)]
                if start not in inner and end not in inner:
                    text = inner.strip()
        text = text.rstrip(".,;:? ").strip() if not text.endswith("...") else text
    return _SYNONYMS.get(_word(text) or "", text)


def _by_rule(gold: str, answer: str) -> bool | None:
    """What needs no algebra; None if only algebra knows."""
    if _DOTS.search(gold + answer):  # algebra would leave them out
        return "".join(gold.split()) == "".join(answer.split())
    if (words := _word(gold)) is not None:
        return words == _word(answer)
    if _DATE.fullmatch(gold):  # 2024-01-02 is no difference
        return gold.casefold() == answer.casefold()
    compares = any(sign in gold for sign in _INEQUALITIES)
    if any(sign in answer and sign not in gold for sign in _STATEMENTS):
        return False
    if (
        not compares
        and any(sign in answer for sign in _INEQUALITIES)
        and not (_solved(answer) and gold[0] in "[(")
    ):
        return False
    one, other = _quantity(gold), _quantity(answer)
    if one is not None and other is not None:
        return _same_quantity(one, other, answer)
    if _PROSE.search(answer) and not _PROSE.search(gold) and "\\text" not in answer:
        return False  # `5 or something else`
    if _APART.search(re.sub(r"\\frac\s*\d\s*\d", "", answer)) and _mixed(answer) is None:
        return False  # two numbers beside each other, which algebra would add or multiply
    a_set = (
        compares
        or gold.startswith(("\\mathbb", "\\emptyset"))
        or any(sign in answer for sign in _INEQUALITIES)
    )
    if not a_set and _kind(gold) != _kind(answer):
        return False
    return None


def _word(text: str) -> str | None:
    """The words that a text is, in lower case; None if it is anything else."""
    inner = re.fullmatch(r"\\(?:text|mbox|textbf|mathrm)\s*\{([^{}]*)\}", text)
    text = " ".join((inner[1] if inner else text).split()).strip(".")
    return text.casefold() if _WORDS.fullmatch(text) and not text.isdigit() else None


def _kind(text: str) -> str:
    """How an answer holds its parts: in `(` or `[`, or `,` where their order says nothing; "" if it has but one."""
    text = text.split("=", 1)[-1].strip()
    text = re.sub(r"\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)", "0", text)
    joined = re.search(r",|\\text\s*\{\s*(?:or|and)\s*\}|\b(?:or|and)\b|\\pm|±|或|和", text)
    if joined is None or "matrix" in text:
        return ""
    if text[0] in "([" and text[-1] in ")]" and not re.search(r"[)\]]\s*,|\\cup|\\cap", text):
        return text[0]
    return "," if not re.search(r"\\cup|\\cap", text) else ""


def _solved(answer: str) -> bool:
    """Whether it is an inequality for one unknown that stands alone, as in `2 < x \\le 5`."""
    sides = re.split(r"<|>|\\leq?|\\geq?|≤|≥", answer)
    names = [side.strip() for side in sides if re.search(r"(?<![\\a-z])[a-zA-Z]", side)]
    return len(sides) in (2, 3) and len(names) == 1 and re.fullmatch(r"[a-zA-Z]", names[0]) is not None


Quantity = tuple[Fraction, str]  # a number and its unit


def _quantity(text: str) -> Quantity | None:
    """`5`, `1{,}000`, `2\\frac{1}{2}`, `\\$5`, `5\\text{ cm}`, `90^\\circ`, `10\\%`, each with its unit."""
    unit = ""
    if match := _MONEY.match(text):
        text, unit = text[match.end() :], "money"
    try:
        return _number(text), unit
    except ExpressionError:
        pass
    match = _UNIT.fullmatch(text)
    if match is None:
        return None
    words = re.sub(r"\\(?:text|mathrm|mbox)|[{}.\\^ ]", "", match["unit"]).casefold()
    words = {"circ": "degree", "°": "degree"}.get(words, words if words == "s" else words.removesuffix("s"))
    if len(words) == 1 and "\\" not in match["unit"] and words.isascii() and words not in "%mgls":
        return None  # an unknown: 5x
    try:
        return _number(match["number"]), unit or words
    except ExpressionError:
        return None


def _number(text: str) -> Fraction:
    mixed = _mixed(text)
    if mixed is not None:
        return mixed
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    if match := _FRACTION.fullmatch(text.strip()):
        top, bottom = (int(half) for half in match.groups()[1:] if half is not None)
        if bottom == 0:
            raise ExpressionError("division by zero")
        return Fraction(top, bottom) * (-1 if match[1] else 1)
    return read_number(text)


def _mixed(text: str) -> Fraction | None:
    """`3 1/2` and `3\\frac{1}{2}`."""
    match = _MIXED.fullmatch(text.strip())
    if match is None:
        return None
    whole, top, bottom = (int(part) for part in match.groups()[1:] if part is not None)
    if not 0 < top < bottom:
        return None
    return (whole + Fraction(top, bottom)) * (-1 if match[1] else 1)


def _same_quantity(gold: Quantity, answer: Quantity, said: str) -> bool:
    """Units must agree where both have one (`5 cm` isn't `0.05 m`); a percentage is a share, and its number, too."""
    (right, unit), (value, other) = gold, answer
    if "%" in (unit, other) and unit != other:
        share, number = (right / 100, value) if unit == "%" else (value / 100, right)
        # 50% is 0.5, and 50 where a percentage is asked for; but a chance of 0.5 isn't 0.5%.
        return number == share or (number == 100 * share and abs(number) >= 1)
    if unit and other and unit != other:
        return False
    if right == value:
        return True
    # A decimal stands for a number that has no end if it gives six digits of it.
    digits = re.fullmatch(r"-?(\d*)\.(\d+)", said)
    if digits is None or len((digits[1] + digits[2]).lstrip("0")) < 6 or _ends(right):
        return False
    return abs(right - value) <= Fraction(1, 10 ** len(digits[2]))


def _ends(value: Fraction) -> bool:
    """Whether its decimals end."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
