"""Numbers, read exactly, with what stands behind them: a scale (`2 million`), a unit, or words that are none."""

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from .units import COUNTED, SCALES, Unit, agree, read_unit

_DECIMAL = r"(?:\d{1,3}(?:(?:,|\{,\}| )\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_MIXED = re.compile(
    r"(?<!\d)([-+]?) ?(\d{1,9})(?: (\d{1,9}) ?/ ?(\d{1,9})(?!\d)| ?\\frac\{(\d{1,9})\}\{(\d{1,9})\})", re.ASCII
)
_FRACTION = re.compile(
    rf"(?<!\d)([-+]?) ?(?:\\frac ?\{{ ?(-?{_DECIMAL}) ?\}} ?\{{ ?(-?{_DECIMAL}) ?\}}|({_DECIMAL}) ?/ ?(-?{_DECIMAL}))",
    re.ASCII,
)  # fmt: skip
_SCIENTIFIC = re.compile(
    r"(?<!\d)([-+]?\d{1,40}(?:\.\d{0,40})?)(?:[eE]([-+]?\d{1,3})(?!\d)"
    r"| ?(?:\*|\\times|\\cdot) ?10 ?\^ ?(?:\{ ?([-+]?\d{1,3}) ?\}|(\d)))",
    re.ASCII,
)
_REPEATING = re.compile(r"(?<!\d)(-?)(\d{0,40})\.(\d{0,40})\\(?:overline|bar|dot) ?\{? ?(\d{1,40}) ?\}?", re.ASCII)
_PLAIN = re.compile(rf"(?<!\d)([-+]?) ?({_DECIMAL})", re.ASCII)
_MONEY = re.compile(r"([-+]?) ?((?:US)?\\?\$|USD|EUR|GBP|RMB|CNY|Rs\.?|[€£¥₹₽₩]) ?")
_TEXT = re.compile(r"\\text ?\{([^{}]*)\}")
_WORDS = re.compile(r"[A-Za-z\u3400-\u9fff' ,.;:!?()-]+")
_HAN = re.compile("[\u3400-\u9fff]")
_LONG = re.compile("[A-Za-z]{4}")
_COMMAND, _UNKNOWN = re.compile(r"\\[A-Za-z]+"), re.compile("[A-Za-z]")
_SHOWN = re.compile(r"(?<!\d)-?(\d*)\.(\d+)", re.ASCII)
_LAST_WORDS = 3  # words behind an expression that may be its unit


class Quantity(NamedTuple):
    """`body` is what has the unit; `value` its number, None for an expression; `words` stand where a unit would, but
    are none. `sure`: no unknown is meant, as in `5m`."""

    body: str
    value: Fraction | None
    unit: Unit | None
    words: str
    sure: bool


@lru_cache(maxsize=4096)
def read_quantity(text: str) -> Quantity | None:
    """`5`, `1{,}000`, `2\\frac{1}{2}`, `\\$5`, `5\\text{ cm}`, `90°`, `10%`, `2 million`, `3\\sqrt{2}\\text{ cm}`;
    None if the text is something else."""
    money: Unit | None = None
    if prefix := _MONEY.match(text):
        symbol = prefix[2].replace("\\", "").removeprefix("US").removeprefix("D") or "USD"
        money = read_unit("USD" if symbol in ("$", "USD") else symbol.rstrip("."))
        text = prefix[1] + text[prefix.end() :]
    match = _number(text)
    if match is not None:
        value, end = match
        if (tail := _read_tail(text[end:])) is not None:
            scale, unit, words = tail
            attached = len(text) == end + 1 and text[-1].isascii() and text[-1].isalpha()
            return Quantity(text[:end], value * scale, _with_money(money, unit), words, not attached)
    mark = next((mark for mark in ("\\text", "°", "%") if mark in text.removesuffix("\\text")), "")
    if not mark:
        return _spelled(text, money)
    body, _, behind = text.partition(mark)
    tail = _read_tail(mark + behind) if body.strip() else None
    if tail is None or tail[0] != 1:
        return None
    return Quantity(body.strip(), None, _with_money(money, tail[1]), tail[2], True)


def _spelled(text: str, money: Unit | None) -> Quantity | None:
    """`12\\pi cm^2` and `3\\sqrt{2} feet`: an expression, a space and a unit of several letters or with a power."""
    position = len(text)
    for _ in range(_LAST_WORDS):
        position = text.rfind(" ", 0, position)
        if position <= 0:
            break
        tail = text[position:].strip()
        unit = read_unit(tail)
        body = text[:position].strip()
        named = len(tail) > 1 or not _UNKNOWN.search(_COMMAND.sub("", body))  # in `2x m`, m is an unknown
        if unit is not None and named and tail[0].isalpha() and body.count("{") == body.count("}"):
            return Quantity(body, None, _with_money(money, unit), "", len(tail) > 1)
    return Quantity(text, None, money, "", True) if money else None


def _with_money(money: Unit | None, unit: Unit | None) -> Unit | None:
    """`$5` and `$5 dollars`; `$5` an hour has both."""
    if money is None or unit is None or agree(money, unit):
        return money or unit
    return tuple(sorted(money + unit))


def _number(text: str) -> tuple[Fraction, int] | None:
    """The number in front of the text, and where it ends."""
    # The longer forms first: each begins with a number of a shorter one.
    if match := _REPEATING.match(text):
        value = Fraction(int(match[4]), 10 ** len(match[4]) - 1) / 10 ** len(match[3])
        return (Fraction(f"{match[2] or 0}.{match[3] or 0}") + value) * (-1 if match[1] else 1), match.end()
    if match := _MIXED.match(text):
        whole, top, bottom = (int(part) for part in match.groups()[1:] if part is not None)
        if not 0 < top < bottom:
            return None
        return (whole + Fraction(top, bottom)) * (-1 if match[1] == "-" else 1), match.end()
    if match := _FRACTION.match(text):
        over, under = (_decimal(part) for part in match.groups()[1:] if part is not None)
        return (over / under * (-1 if match[1] == "-" else 1), match.end()) if under else None
    if match := _SCIENTIFIC.match(text):
        power = int(match[2] or match[3] or match[4])
        return _decimal(match[1]) * Fraction(10) ** power, match.end()
    if match := _PLAIN.match(text):
        return _decimal(match[2]) * (-1 if match[1] == "-" else 1), match.end()
    return None


def _decimal(text: str) -> Fraction:
    return Fraction(Decimal(text.replace("{,}", "").replace(",", "").replace(" ", "").removeprefix("+")))


def _read_tail(text: str) -> tuple[int, Unit | None, str] | None:
    """What stands behind a number: a scale, a unit and words; None if it is mathematics."""
    spelled = "\\text" in text
    rest = " ".join(_TEXT.sub(r" \1 ", text).split()) if spelled else text.strip()
    if (unit := read_unit(rest)) is not None:  # 千米 is no 1,000 m
        return 1, unit, ""
    scale, rest = _scale(rest)
    if not rest:
        return scale, None, ""
    if (unit := read_unit(rest)) is not None:
        return scale, unit, ""
    if _WORDS.fullmatch(rest) and (spelled or scale > 1 or _HAN.search(rest) or _LONG.search(rest) or rest in COUNTED):
        return scale, None, rest.casefold()
    return None


def _scale(rest: str) -> tuple[int, str]:
    """The thousands and millions in front of the rest, multiplied."""
    scale = 1
    for _ in range(3):
        word = rest.split(" ", 1)[0]
        size = len(word)
        if word.casefold() not in SCALES:
            size = next((size for size in (2, 1) if rest[:size] in SCALES), 0)
        if not size:
            break
        scale, rest = scale * SCALES[rest[:size].casefold()], rest[size:].strip()
    return scale, rest


def names_agree(gold: Quantity, answer: Quantity) -> bool | None:
    """Whether what stands behind the answer's number may stand there; None if the gold's letter may be an unknown."""
    if gold.words or answer.words:
        if gold.words and answer.words:
            return _singular(gold.words) == _singular(answer.words)
        only, other = (gold, answer) if gold.words else (answer, gold)
        # Whoever posed the problem may name what is counted; an answer's words are a unit, or say something else.
        return other.unit is None and (only is gold or only.words in COUNTED)
    if gold.unit is not None and answer.unit is not None:
        return agree(gold.unit, answer.unit)
    if gold.unit is not None and not gold.sure:
        return None
    return True


def _singular(words: str) -> str:
    words = words.strip(" .")
    return words.removesuffix("s") if len(words) > 2 else words


def same_number(gold: Quantity, answer: Quantity) -> bool:
    """Whether the values agree, exactly or to six digits of what has no end. A percentage is its share and its
    number."""
    assert gold.value is not None and answer.value is not None
    right, value = gold.value, answer.value
    share = (("%", 1),)
    if (gold.unit == share) != (answer.unit == share):
        part, number = (right / 100, value) if gold.unit == share else (value / 100, right)
        # 50% is 0.5, and 50 where a percentage is asked for; but a chance of 0.5 isn't 0.5%.
        return number == part or (number == 100 * part and abs(number) >= 1)
    if right == value:
        return True
    digits = _SHOWN.fullmatch(answer.body)
    # Its decimals end if a power of ten is a multiple of what is below the line.
    terminates = pow(10, right.denominator.bit_length(), right.denominator) == 0
    if digits is None or len((digits[1] + digits[2]).lstrip("0")) < 6 or terminates:
        return False
    return abs(right - value) <= Fraction(1, 10 ** len(digits[2]))
