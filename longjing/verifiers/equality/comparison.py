"""The decision: part by part, words as words, numbers exactly, and only expressions by computer algebra.

`math-verify` alone makes false verdicts of both kinds: `6=5` says 5, `5 cm` is `5 m`, `3 1/2` is 2, `(1,2)` is `{1,2}`,
and `5.` isn't 5. `tests/verdicts/verdicts.jsonl` has a decision for each kind.
"""

import re
from contextlib import suppress

from . import algebra
from .notation import plain, unwrapped
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
_COMMANDS = re.compile(r"\\[A-Za-z]+")
_PROSE = re.compile(r"[A-Za-z]{4,}|[\u3400-\u9fff]|\\text")
_APART = re.compile(r"(?<!\\log_)(?<!\\log _)\d \d|[\d)}] ?['_]")
_BASED = re.compile(r"(-?\d[\dA-F.]*) ?_[ {(]{0,3}(\d{1,2})[ })]{0,3}")
# Commands that algebra knows; others it might leave out.
_KNOWN_TEXT = (
    "frac sqrt cdot times pi alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma "
    "tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega sin cos tan cot sec csc "
    "arcsin arccos arctan sinh cosh tanh log ln lg exp gcd lcm min max det sum prod int lim binom choose le ge "
    "infty cup cap setminus mathbb emptyset in pm mp lfloor rfloor lceil rceil bmod mod pmod div partial Re Im "
    "arg circ begin end to ell hbar"
)
_KNOWN = frozenset(f"\\{name}" for name in _KNOWN_TEXT.split())
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
    if _DOTS.search(text) or _DATE.fullmatch(_time(text)) or _stated(text)[1]:
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


def _squeezed(text: str) -> str:
    """Without the spaces that say nothing."""
    return _BESIDE.sub(r"\1", " ".join(text.split()))


def _bare(text: str) -> str:
    """The same, whether words stand as text or not."""
    return _squeezed(_AS_TEXT.sub(r"\1", text))


def _choices(text: str) -> list[str]:
    """The letters of several choices, `ABD` or `B, A and D`; none if it is anything else."""
    text = _bare(text)
    letters = [letter for letter in text if letter.isupper()] if _CHOICES.fullmatch(text) else []
    ordered = sorted(set(letters))
    return (
        ordered if len(ordered) == len(letters) and (text != "".join(letters) or letters == ordered) else []
    )


def _time(text: str) -> str:
    """Of `5:30 \\text{ p.m.}` and `5:30 PM` the same."""
    return "".join(_bare(text).casefold().replace("p.m", "pm").replace("a.m", "am").rstrip(".").split())


def _same(gold: str, answer: str) -> bool:
    if not gold or not answer:
        return False
    if _bare(gold) == _bare(answer):
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
    (golds, signs), (answers, others) = _stated(gold), _stated(answer)
    if signs == others:
        return all(_same(one, other) for one, other in zip(golds, answers, strict=True)) if signs else None
    if not others and signs[-1] in ("\\approx", "\\simeq", "\\sim"):  # the gold says what it rounds
        return _same(golds[-1], answer)
    return False


def _stated(text: str) -> tuple[list[str], list[str]]:
    bare = _FACTORIAL.sub(lambda found: "\x00" * len(found[0]), text)
    parts, signs, start = [], [], 0
    for found in _STATEMENT.finditer(bare):
        parts.append(text[start : found.start()])
        signs.append(found[0])
        start = found.end()
    return [*parts, text[start:]], signs


def _compare(gold: Node, answer: Node) -> bool:
    if gold.unknown and answer.unknown and gold.unknown != answer.unknown:
        # x=5 isn't y=5, but y=x is x=y.
        return (
            gold.kind == answer.kind == "leaf"
            and not _constant(gold.text)
            and algebra.equal(gold.whole, answer.whole)
        )
    if (
        gold.kind == "leaf"
        and not gold.name
        and len(stated := sides(gold.text)) > 1
        and all(map(_constant, stated))
    ):
        gold = Node("leaf", stated[-1])  # \\log_2 8 = 3
    if gold.kind == "leaf" and len(sides(gold.text)) > 1 and not gold.name:
        return answer.kind == "leaf" and _same_expression(gold.text, answer.whole)
    one, other = gold.kind, answer.kind
    if (
        gold.name
        and one == other == "leaf"
        and not answer.name
        and len(sides(answer.text)) > 1
        and not _constant(gold.text)
    ):
        return algebra.equal(gold.whole, answer.text)  # y = 2x+1 is 2x-y+1 = 0
    if one == other == "leaf":
        return _same_leaf(gold, answer)
    if one == other == "matrix":
        return _all(gold.parts, answer.parts)
    if one == other == "row":
        return _all(gold.parts, answer.parts)
    if one == other == "tuple" and gold.brackets == answer.brackets and _all(gold.parts, answer.parts):
        return True
    if one == other == "set":
        return _each_in(gold.parts, answer.parts) and _each_in(answer.parts, gold.parts)
    if {one, other} <= {"set", "list", "union"}:
        if _same_list(gold, answer):
            return True
    elif {one, other} <= {"tuple", "list"} and _sequence(gold) and _sequence(answer):
        return _all(_by_name(gold), _by_name(answer))
    elif {one, other} == {"matrix", "tuple"}:  # a column is a vector
        column, point = (gold, answer) if one == "matrix" else (answer, gold)
        return point.brackets == "()" and _all(*_turned(gold, answer)) if _is_column(column) else False
    elif "leaf" in (one, other):
        if "," in (gold.text if one == "leaf" else answer.text) and {one, other} <= {"leaf", "list", "set"}:
            again = read(gold.text, False), read(answer.text, False)
            return "leaf" not in (again[0].kind, again[1].kind) and _compare(*again)
        single = gold if one == "set" else answer if other == "set" else None
        if single is not None and len(single.parts) == 1:
            parts = (gold.parts[0], answer) if single is gold else (gold, answer.parts[0])
            return _compare(*parts)
    if any(mark in gold.text + answer.text for mark in _SETS) or compares(gold.text):
        if "list" in (one, other) or _PROSE.search(_COMMANDS.sub(" ", answer.text)):
            return False
        return (
            {one, other} != {"leaf"}
            and (one != "leaf" or _set_like(gold.text))
            and algebra.equal(gold.text, answer.text)
        )
    return False


def _set_like(text: str) -> bool:
    return compares(text) or any(mark in text for mark in _SETS)


def _constant(text: str) -> bool:
    return not _CONSTANT.sub("", text).strip()


def _all(golds: tuple[Node, ...], answers: tuple[Node, ...]) -> bool:
    return len(golds) == len(answers) and all(map(_compare, golds, answers))


def _each_in(some: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
    return all(any(_compare(one, other) for other in others) for one in some)


def _sequence(node: Node) -> bool:
    """Whether the order of its parts says something: a point, or values of several unknowns."""
    names = [part.unknown for part in node.parts]
    return (node.kind == "tuple" and node.brackets == "()" and not node.ordered) or _distinct(names)


def _distinct(names: list[str]) -> bool:
    return all(names) and len(set(names)) == len(names) > 1


def _by_name(node: Node) -> tuple[Node, ...]:
    """The parts without their names."""
    return tuple(Node(part.kind, part.text, part.parts, part.brackets) for part in node.parts)


def _is_column(node: Node) -> bool:
    return all(len(row.parts) == 1 for row in node.parts)


def _turned(gold: Node, answer: Node) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    def parts(node: Node) -> tuple[Node, ...]:
        return tuple(row.parts[0] for row in node.parts) if node.kind == "matrix" else node.parts

    return parts(gold), parts(answer)


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
            return all(map(_compare, _by_name(gold), _by_name(answer)))
        golds, answers = _by_name(gold), _by_name(answer)
    left = list(answers)
    for one in golds:
        match = next(
            (at for at, other in enumerate(left) if _squeezed(one.whole) == _squeezed(other.whole)), None
        )
        if match is None:
            match = next((at for at, other in enumerate(left) if _compare(one, other)), None)
        if match is None:
            return False
        left.pop(match)
    return True


def _same_leaf(gold: Node, answer: Node) -> bool:
    if gold.name and len(parts := sides(gold.text)) > 1:  # x = 2+3 = 5
        gold = Node("leaf", parts[-1], name=gold.name)
    return _same_expression(gold.text, answer.text)


def _same_expression(gold: str, answer: str) -> bool:
    if _squeezed(gold) == _squeezed(answer):
        return True
    if (words := _words(gold)) is not None:
        return words == _words(answer)
    if _product(gold) and (letters := _TIMES.sub("", answer)).isalpha():
        return sorted(letters) == sorted(gold)
    given, asked = sides(answer), sides(gold)
    if len(given) > 1 and len(asked) == 1:
        # `2+3=5` says 5; `6=5` and `2+2=5` don't.
        if is_name(given[0]):
            given = given[1:]
        return all(part and _same_expression(gold, part) for part in given)
    if len(asked) > 1 and len(given) == 1:
        return False
    if compares(gold) != compares(answer):
        return False
    if based := _BASED.fullmatch(gold):  # algebra would leave the base out
        other = _BASED.fullmatch(answer)
        return answer == based[1] or (other is not None and other.groups() == based.groups())
    if (verdict := _same_quantity(gold, answer)) is not None:
        return verdict
    if _PROSE.search(_COMMANDS.sub(_kept, gold)) and not _product(gold):
        return _squeezed(gold).casefold() == _squeezed(answer).casefold()
    if _PROSE.search(_COMMANDS.sub(_kept, answer)) and not _product(gold):
        return False  # `5 or something else`
    if (_APART.search(answer) and not _APART.search(gold)) or not _READABLE.fullmatch(answer):
        return False  # two numbers beside each other, which algebra would add or multiply; signs that it would drop
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
        found = other if one is None else one
        assert found is not None
        if found is other and found.words and found.words not in COUNTED:
            return False
        if found.unit is None and not found.words:
            return None
        if found.unit == (("%", 1),) or (found is one and not found.sure):
            return None
        return _same_expression(gold, found.body) if one is None else _same_expression(found.body, answer)
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


def _kept(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\\text" else " "


def _words(text: str) -> str | None:
    """The words that a text is, in lower case; None if it is anything else."""
    said = unwrapped(text)
    if not _WORD.fullmatch(said) or (said is text and _product(text)):
        return None
    return said.casefold()


def _product(text: str) -> bool:
    """Whether letters are unknowns beside each other, as in `abc`, rather than a word, as in `stop`."""
    if not _LETTERS.fullmatch(text) or len(set(text)) != len(text):
        return False
    in_a_row = len(text) > 2 and all(
        ord(two) - ord(one) == 1 for one, two in zip(text, text[1:], strict=False)
    )
    return in_a_row or set(text) <= set("abcxyz") or not _VOWEL.search(text)
