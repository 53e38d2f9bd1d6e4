"""The decision: part by part, words as words, numbers exactly, and only expressions by computer algebra.

`math-verify` alone makes false verdicts of both kinds: `6=5` says 5, `5 cm` is `5 m`, `3 1/2` is 2, `(1,2)` is `{1,2}`,
and `5.` isn't 5. `tests/verdicts/verdicts.jsonl` has a decision for each kind.
"""

import re
from contextlib import suppress

from . import algebra
from .notation import TABLES, plain, unwrapped
from .quantities import names_agree, read_quantity, same_number
from .structure import Node, compares, is_name, read, sides
from .units import COUNTED

_BESIDE = re.compile(r" ?([^\w\s]) ?")
_AS_TEXT = re.compile(r"\\text ?\{([^{}]*)\}")
_DOTS = re.compile(r"\\ldots|\.\.\.")
_CHOICES = re.compile(r"[A-H](?:(?: ?, ?(?:and )?| | ?and |和)?[A-H]){1,7}")
_DATE = re.compile(r"\d{1,4}-\d{1,2}-\d{1,4}|\d{1,2}:\d\d(?::\d\d)?(?:[ap]m)?")
# What turns a statement around, or makes another of it.
_STATEMENT = re.compile(
    r"\\(?:ne|not|notin|to|mapsto|forall|exists|nexists|approx|approxeq|thickapprox|sim|simeq|equiv|cong|doteq|asymp"
    r"|implies|impliedby|iff|[A-Za-z]{0,12}arrow|propto|therefore|because|neg|subset|subseteq|supset|supseteq|perp|parallel"
    r"|nmid|ll|gg|prec|succ|vdash|models|lesssim|gtrsim)(?![A-Za-z])|!|~"
)
_FACTORIAL = re.compile(r"(?<=[\w)}])!{1,2}(?!\w)")
_WORD = re.compile(r"[A-Za-z]{3,}(?:[ '-][A-Za-z]+){0,40}|[A-Z]{2,40}|[\u3400-\u9fff]+|(?i:no|ok|on|up)")
_VOWEL = re.compile("[aeiouy]")
_LETTERS = re.compile("[a-z]{2,8}")
_TIMES = re.compile(r"\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|[ *]")
_COMMANDS, _BUT_TEXT = re.compile(r"\\[A-Za-z]+"), re.compile(r"\\(?!text(?![A-Za-z]))[A-Za-z]+")
_PROSE = re.compile(r"[A-Za-z]{4,}|[\u3400-\u9fff]|\\text")
_APART = re.compile(r"(?<!\\log_)(?<!\\log _)\d \d|[\d)}] ?['_]")
_BASED = re.compile(r"(-?\d[\dA-F.]*) ?_[ {(]{0,3}(\d{1,2})[ })]{0,3}")
_KNOWN = frozenset(f"\\{name}" for name in TABLES["known_to_algebra"])
_READABLE = re.compile(r"[A-Za-z0-9\s\\{}()\[\]^_+\-*/.,|!'%°<>=&:αμΩ]*")
_SETS = ("\\cup", "\\cap", "\\setminus", "\\mathbb", "\\emptyset", "\\infty")
_CONSTANT = re.compile(r"\\[A-Za-z]+|[\d\s{}()+\-*/.^_]")


def same(gold: str, answer: str) -> bool:
    """Whether the answer says what the gold says. Raises what computer algebra raises on either."""
    return _same(plain(gold), plain(answer))


def sound(gold: str) -> bool:
    """True, after what the gold alone costs: each expression of it is compared with itself, and with a number if it
    is one."""
    text = plain(gold)
    if _DOTS.search(text) or _DATE.fullmatch(_time(text)) or _statements(text)[1]:
        return True  # which algebra isn't asked about
    for leaf in _leaves(read(text)):
        quantity = read_quantity(leaf)
        if (quantity is not None and quantity.value is not None) or _PROSE.search(_COMMANDS.sub(" ", leaf)):
            continue
        algebra.equal(leaf, leaf)
        if _constant(leaf):  # 9^{9^9} is read at once, and has to be evaluated only beside another number
            with suppress(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
                algebra.equal(leaf, "12345.678")  # two kinds needn't be comparable
    return True


def _leaves(node: Node) -> list[str]:
    if node.kind == "leaf":
        return [side for side in sides(node.text) if side]
    return [leaf for part in node.parts for leaf in _leaves(part)]


def _without_spaces(text: str) -> str:
    """Without the spaces that say nothing."""
    return _BESIDE.sub(r"\1", " ".join(text.split()))


def _plain_words(text: str) -> str:
    """The same, whether words stand as text or not."""
    return _without_spaces(_AS_TEXT.sub(r"\1", text))


def _choices(text: str) -> list[str]:
    """The letters of several choices, `ABD` or `B, A and D`; none if it is anything else."""
    text = _plain_words(text)
    letters = [letter for letter in text if letter.isupper()] if _CHOICES.fullmatch(text) else []
    ordered = sorted(set(letters))
    return ordered if len(ordered) == len(letters) and (text != "".join(letters) or letters == ordered) else []


def _time(text: str) -> str:
    """Of `5:30 \\text{ p.m.}` and `5:30 PM` the same."""
    return "".join(_plain_words(text).casefold().replace("p.m", "pm").replace("a.m", "am").rstrip(".").split())


def _same(gold: str, answer: str) -> bool:
    if not gold or not answer:
        return False
    # The same text is right, whatever algebra would think of it.
    if _plain_words(gold) == _plain_words(answer):
        return True
    if len(unwrapped(gold)) == len(unwrapped(answer)) == 1 and (gold + answer).isascii():
        gold, answer = unwrapped(gold), unwrapped(answer)
        if gold.isalpha():  # b may stand for the choice B, but x isn't X
            return gold == answer or (gold.isupper() and gold.casefold() == answer)
    if len(choices := _choices(gold)) > 1 and choices == _choices(answer):
        return True
    if _DOTS.search(gold + answer):  # algebra would leave them out
        return False
    if _DATE.fullmatch(time := _time(gold)):  # 2024-01-02 is no difference
        return time == _time(answer)
    stated = _same_statement(gold, answer)
    if stated is not None:
        return stated
    return _compare(read(gold), read(answer))


def _same_statement(gold: str, answer: str) -> bool | None:
    """`5 \\approx 6` says neither 5 nor 6. None if neither has such a sign."""
    (golds, signs), (answers, others) = _statements(gold), _statements(answer)
    if signs == others:
        return all(_same(one, other) for one, other in zip(golds, answers, strict=True)) if signs else None
    if not others and signs[-1] in ("\\approx", "\\simeq", "\\sim"):  # the gold says what it rounds
        return _same(golds[-1], answer)
    return False


def _statements(text: str) -> tuple[list[str], list[str]]:
    bare = _FACTORIAL.sub(lambda match: "\x00" * len(match[0]), text)
    parts, signs, start = [], [], 0
    for match in _STATEMENT.finditer(bare):
        parts.append(text[start : match.start()])
        signs.append(match[0])
        start = match.end()
    return [*parts, text[start:]], signs


def _compare(gold: Node, answer: Node) -> bool:
    """Whether two answers that were taken apart say the same: by their form as far as that goes, then by algebra."""
    both_leaves = gold.kind == answer.kind == "leaf"
    if gold.unknown and answer.unknown and gold.unknown != answer.unknown:
        # x=5 isn't y=5, but y=x is x=y.
        return both_leaves and not _constant(gold.text) and algebra.equal(gold.whole, answer.whole)
    if gold.kind == "leaf" and not gold.name:
        golds = sides(gold.text)
        if len(golds) > 1 and all(map(_constant, golds)):
            gold = Node("leaf", golds[-1])  # \\log_2 8 = 3
    if (verdict := _compare_equation(gold, answer)) is not None:
        return verdict
    if both_leaves:
        return _same_leaf(gold, answer)
    if (verdict := _compare_parts(gold, answer)) is not None:
        return verdict
    return _compare_sets(gold, answer)


def _compare_equation(gold: Node, answer: Node) -> bool | None:
    """None if neither is an equation that has to be compared as a whole."""
    if gold.kind != "leaf":
        return None
    if not gold.name and len(sides(gold.text)) > 1:
        return answer.kind == "leaf" and _same_expression(gold.text, answer.whole)
    if not gold.name or answer.name or answer.kind != "leaf":
        return None
    if len(sides(answer.text)) > 1 and not _constant(gold.text):
        return algebra.equal(gold.whole, answer.text)  # y = 2x+1 is 2x-y+1 = 0
    return None


def _compare_parts(gold: Node, answer: Node) -> bool | None:
    """Matrices, points, sets and lists, part by part; None where that decides nothing."""
    kinds = {gold.kind, answer.kind}
    if kinds in ({"matrix"}, {"row"}):
        return _all_same(gold.parts, answer.parts)
    # Both ways: a set may name an element twice, in two forms.
    if kinds == {"set"}:
        return _each_has_a_match(gold.parts, answer.parts) and _each_has_a_match(answer.parts, gold.parts)
    if kinds == {"tuple"} and gold.brackets == answer.brackets and _all_same(gold.parts, answer.parts):
        return True
    if kinds <= {"set", "list", "union"}:
        return True if _same_list(gold, answer) else None
    if kinds <= {"tuple", "list"} and _sequence(gold) and _sequence(answer):
        return _all_same(_unnamed(gold), _unnamed(answer))
    if kinds == {"matrix", "tuple"}:  # a column is a vector
        column, point = (gold, answer) if gold.kind == "matrix" else (answer, gold)
        narrow = all(len(row.parts) == 1 for row in column.parts)
        return narrow and point.brackets == "()" and _all_same(_entries(gold), _entries(answer))
    return _compare_with_leaf(gold, answer) if "leaf" in kinds else None


def _compare_with_leaf(gold: Node, answer: Node) -> bool | None:
    """One of them is a leaf, the other has parts."""
    leaf, other = (gold, answer) if gold.kind == "leaf" else (answer, gold)
    if "," in leaf.text and other.kind in ("list", "set"):  # 1,000 may be one number, or two
        again = read(gold.text, False), read(answer.text, False)
        return "leaf" not in (again[0].kind, again[1].kind) and _compare(*again)
    if other.kind == "set" and len(other.parts) == 1:
        (only,) = other.parts
        return _compare(only, answer) if other is gold else _compare(gold, only)
    return None


def _compare_sets(gold: Node, answer: Node) -> bool:
    """Unions, sets of numbers and inequalities by algebra; everything else differs."""
    if not any(mark in gold.text + answer.text for mark in _SETS) and not compares(gold.text):
        return False
    if "list" in (gold.kind, answer.kind) or _PROSE.search(_COMMANDS.sub(" ", answer.text)):
        return False
    set_like = compares(gold.text) or any(mark in gold.text for mark in _SETS)
    return (gold.kind != "leaf" or set_like) and algebra.equal(gold.text, answer.text)


def _constant(text: str) -> bool:
    return not _CONSTANT.sub("", text).strip()


def _all_same(golds: tuple[Node, ...], answers: tuple[Node, ...]) -> bool:
    return len(golds) == len(answers) and all(map(_compare, golds, answers))


def _each_has_a_match(some: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
    return all(any(_compare(one, other) for other in others) for one in some)


def _sequence(node: Node) -> bool:
    """Whether the order of its parts says something: a point, or values of several unknowns."""
    names = [part.unknown for part in node.parts]
    return (node.kind == "tuple" and node.brackets == "()" and not node.ordered) or _distinct(names)


def _distinct(names: list[str]) -> bool:
    return all(names) and len(set(names)) == len(names) > 1


def _unnamed(node: Node) -> tuple[Node, ...]:
    """The parts without their names."""
    return tuple(Node(part.kind, part.text, part.parts, part.brackets) for part in node.parts)


def _entries(node: Node) -> tuple[Node, ...]:
    """Of a column or a point."""
    return tuple(row.parts[0] for row in node.parts) if node.kind == "matrix" else node.parts


def _same_list(gold: Node, answer: Node) -> bool:
    """The same parts, each as often, in any order; of several unknowns each its own."""
    golds, answers = gold.parts, answer.parts
    if len(golds) != len(answers):
        return False
    names, others = [part.unknown for part in golds], [part.unknown for part in answers]
    if _distinct(names) or _distinct(others):
        roots = len({name.split("_")[0] for name in names + others if name}) == 1
        if _distinct(names) and _distinct(others):
            return sorted(names) == sorted(others) and all(
                _compare(one, answers[others.index(name)]) for name, one in zip(names, golds, strict=True)
            )
        if not roots:  # x=1, y=2 is 1, 2, in this order
            return all(map(_compare, _unnamed(gold), _unnamed(answer)))
        golds, answers = _unnamed(gold), _unnamed(answer)
    # Each answer is used up by one gold: 2, 2, 3 is not 2, 3, 3.
    left = list(answers)
    for one in golds:
        text = _without_spaces(one.whole)
        # Equal texts first: they cost nothing, and algebra might pair others so that one is left over.
        match = next((index for index, other in enumerate(left) if _without_spaces(other.whole) == text), None)
        if match is None:
            match = next((index for index, other in enumerate(left) if _compare(one, other)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _same_leaf(gold: Node, answer: Node) -> bool:
    if gold.name and len(parts := sides(gold.text)) > 1:  # x = 2+3 = 5
        gold = Node("leaf", parts[-1], name=gold.name)
    return _same_expression(gold.text, answer.text)


def _same_expression(gold: str, answer: str) -> bool:
    if _without_spaces(gold) == _without_spaces(answer):
        return True
    if (words := _words(gold)) is not None:
        return words == _words(answer)
    if _product(gold) and (letters := _TIMES.sub("", answer)).isalpha():
        return sorted(letters) == sorted(gold)
    answer_sides, gold_sides = sides(answer), sides(gold)
    if len(answer_sides) > 1 and len(gold_sides) == 1:
        # `2+3=5` says 5; `6=5` and `2+2=5` don't.
        if is_name(answer_sides[0]):
            answer_sides = answer_sides[1:]
        return all(part and _same_expression(gold, part) for part in answer_sides)
    if len(gold_sides) > 1 and len(answer_sides) == 1:
        return False
    if compares(gold) != compares(answer):
        return False
    if based := _BASED.fullmatch(gold):  # algebra would leave the base out
        other = _BASED.fullmatch(answer)
        return answer == based[1] or (other is not None and other.groups() == based.groups())
    if (verdict := _same_quantity(gold, answer)) is not None:
        return verdict
    if _PROSE.search(_BUT_TEXT.sub(" ", gold)) and not _product(gold):
        return _without_spaces(gold).casefold() == _without_spaces(answer).casefold()
    if _PROSE.search(_BUT_TEXT.sub(" ", answer)) and not _product(gold):
        return False  # `5 or something else`
    if (_APART.search(answer) and not _APART.search(gold)) or not _READABLE.fullmatch(answer):
        return False  # two numbers beside each other, which algebra would add or multiply; signs that it would drop
    # A command that algebra may not know: it might leave it out, and take the rest for the answer.
    if not _KNOWN.union(_COMMANDS.findall(gold)).issuperset(_COMMANDS.findall(answer)):
        return False
    if _unknowns(gold) != _unknowns(answer) and _unknowns(gold.casefold()) == _unknowns(answer.casefold()):
        return False  # for algebra X is x
    return algebra.equal(gold, answer)


def _unknowns(text: str) -> set[str]:
    return {letter for letter in _COMMANDS.sub("", text) if letter.isalpha()}


def _same_quantity(gold: str, answer: str) -> bool | None:
    """None if it is for algebra to say."""
    one, other = read_quantity(gold), read_quantity(answer)
    if one is None and other is None:
        return None
    if one is None or other is None:
        quantity = other if one is None else one
        assert quantity is not None
        if quantity is other and quantity.words and quantity.words not in COUNTED:
            return False
        if quantity.unit is None and not quantity.words:
            return None
        if quantity.unit == (("%", 1),) or (quantity is one and not quantity.sure):
            return None
        return _same_expression(gold, quantity.body) if one is None else _same_expression(quantity.body, answer)
    agreed = names_agree(one, other)
    if agreed is not True:
        return agreed
    if one.value is not None and other.value is not None:
        return same_number(one, other)
    if (one.unit == (("%", 1),)) != (other.unit == (("%", 1),)):
        return None
    if (one.body, other.body) == (gold, answer):
        return None
    return _same_expression(one.body, other.body)


def _words(text: str) -> str | None:
    """The words that a text is, in lower case; None if it is anything else."""
    words = unwrapped(text)
    if not _WORD.fullmatch(words) or (words is text and _product(text)):
        return None
    return words.casefold()


def _product(text: str) -> bool:
    """Whether letters are unknowns beside each other, as in `abc`, rather than a word, as in `stop`."""
    if not _LETTERS.fullmatch(text) or len(set(text)) != len(text):
        return False
    in_a_row = len(text) > 2 and all(ord(two) - ord(one) == 1 for one, two in zip(text, text[1:], strict=False))
    return in_a_row or set(text) <= set("abcxyz") or not _VOWEL.search(text)
