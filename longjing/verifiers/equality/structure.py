"""What an answer is made of: a list, a set, a point or interval, a matrix, each of parts; or one expression."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from .notation import TABLES, unframed

_DEEPEST = 12
_SKIPPED = r"\\[{}]|\\text\{[^{}]*\}|\\[A-Za-z]+|\\.|[()\[\]{}]"


def _splitter(sign: str) -> re.Pattern[str]:
    return re.compile(f"({sign})|{_SKIPPED}", re.DOTALL)


_JOINS = _splitter(
    r"\\text\{ ?,? ?(?:and|or|和|或) ?\}|\\land(?![A-Za-z])|\\lor(?![A-Za-z])|,|;"
    r"|(?<![A-Za-z])(?:and|or)(?![A-Za-z])|[和或与及]"
)
_EQUALS = _splitter("=")
_ORDERS = _splitter(r"\\[lg]e(?![A-Za-z])|[<>]")
_CUPS = _splitter(r"\\cup(?![A-Za-z])")
_COLUMNS, _ROWS = _splitter("&"), _splitter(r"\\\\")
_OPENING = frozenset(["(", "[", "{", "\\{", "\\langle"])
_CLOSING = frozenset([")", "]", "}", "\\}", "\\rangle"])
_BRACKETS = (
    ("\\{", "\\}"), ("{", "}"), ("\\langle", "\\rangle"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"),
)  # fmt: skip
_THOUSANDS = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!\d|,\d)", re.ASCII)
_MATRIX = re.compile(
    r"(-?(?:\d+(?: ?/ ?\d+)?|\\frac\{[^{}]+\}\{[^{}]+\}|\\sqrt\{\d+\})?) ?(?:\\cdot|\\times)? ?"
    r"[(\[]? ?\\begin\{([pbBV]?matrix|smallmatrix|array)\} ?(\{[clr| ]{0,20}\})?(.*)\\end\{\2\} ?[)\]]?"
    r" ?(\^ ?(?:T|\{ ?T ?\}|\\top|\{ ?\\top ?\}))?", re.DOTALL
)  # fmt: skip
_SYSTEM = re.compile(
    r"(?:\\begin\{(cases)\}|\\\{ ?\\begin\{(array|aligned)\} ?(?:\{[clr ]{1,20}\})?)(.*)\\end\{(?:\1|\2)\}", re.DOTALL
)
_MEMBER = re.compile(r"([A-Za-z]|\\[a-z]+) ?\\in(?![A-Za-z])(.*)", re.DOTALL)
_BUILDER = re.compile(r"\\\{ ?([A-Za-z]) ?(?:\\in ?\\mathbb\{R\} ?)?[|:](.*)\\\}", re.DOTALL)
_UNKNOWN = re.compile(r"[A-Za-z](?:_(?:\{[^{}]*\}|\w))?|\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|epsilon)")
_NAME = re.compile(
    r"\\?[A-Za-z]+'{0,3}(?:\^\{-1\})?(?: ?_ ?(?:\{[^{}]*\}|\w))?(?: ?\([^()]*\))?"
    r"|\\text ?\{[^{}]*\}(?: ?_ ?(?:\{[^{}]*\}|\w))?"
    r"|\\frac\{ ?d ?[A-Za-z]? ?\}\{ ?d ?[A-Za-z] ?\}|m? ?\\angle ?[A-Za-z]+"
    r"|\\(?:overline|vec|hat|bar|tilde)\{? ?[A-Za-z]+ ?\}?|\|[^|]{1,20}\|"
    r"|[A-Za-z]+(?: [A-Za-z]+){1,5}|[\u3400-\u9fff]{1,12}"
    r"|[A-Za-z](?: ?\+ ?[A-Za-z])+"
)
_NAMES = re.compile(r"\( ?[A-Za-z](?: ?, ?[A-Za-z])+ ?\)")
_CONSTANTS = frozenset(f"\\{name}" for name in TABLES["no_names"])
_COMMAND_ALONE = re.compile(r"\\[A-Za-z]+")
_DENIALS = re.compile(
    r"(?:not|no|never|wrong|incorrect|false|isn't|n't|except|unless)(?![A-Za-z])|[不非错无没]", re.IGNORECASE
)
_PLAIN_WORDS = re.compile(r"\\text.*|[A-Za-z]{3,}|[A-Za-z]+(?: [A-Za-z]+)+", re.DOTALL)


@dataclass(frozen=True)
class Node:
    """`text` is the whole but for its name; `brackets` are those of a tuple (a point or an interval). `name`: the
    unknown or the words in front of it. `ordered`: an inequality that was written as the interval it is."""

    kind: Literal["leaf", "tuple", "set", "list", "union", "matrix", "row"]
    text: str
    parts: tuple["Node", ...] = ()
    brackets: str = ""
    name: str = ""
    ordered: bool = False

    @property
    def whole(self) -> str:
        return f"{self.name}={self.text}" if self.name and not self.ordered else self.text

    @property
    def unknown(self) -> str:
        """The name, without spaces, unless it is of words."""
        return "" if _PLAIN_WORDS.fullmatch(self.name) else self.name.replace(" ", "").replace("{", "").replace("}", "")


def split(pattern: re.Pattern[str], text: str) -> tuple[list[str], list[str]]:
    """The parts of a text between signs that stand in no brackets, and the signs. One part if brackets don't match."""
    depth, start = 0, 0
    parts, signs = [], []
    for match in pattern.finditer(text):
        token = match[0]
        if match[1] is not None:
            if depth == 0:
                parts.append(text[start : match.start()])
                signs.append(token)
                start = match.end()
        elif token in _OPENING:
            depth += 1
        elif token in _CLOSING:
            depth -= 1
            if depth < 0:
                return [text], []
    return ([*parts, text[start:]], signs) if depth == 0 else ([text], [])


def sides(text: str) -> list[str]:
    """The sides of an equation."""
    return [side.strip() for side in split(_EQUALS, text)[0]]


def compares(text: str) -> bool:
    """Whether it has an inequality at its top."""
    return len(split(_ORDERS, text)[0]) > 1


def read(text: str, thousands: bool = True, depth: int = 0) -> Node:
    """What the text is made of. `thousands`: whether `1,234` is one number."""
    text = unframed(text)
    if depth > _DEEPEST or not text:
        return Node("leaf", text)
    if match := _MEMBER.fullmatch(text):
        return replace(read(match[2], thousands, depth + 1), name=match[1])
    if match := _BUILDER.fullmatch(text):
        inner = read(match[2], thousands, depth + 1)
        if inner.ordered:
            return replace(inner, name="")
    # A matrix or a system has commas that make no list, and of `x = 1, 2` the list comes before the name.
    node = _matrix(text, depth) or _system(text, thousands, depth) or _list(text, thousands, depth)
    node = node or _named(text, thousands, depth) or _interval(text, depth)
    if node is not None:
        return node
    unions, _ = split(_CUPS, text)
    if len(unions) > 1:
        return Node("union", text, tuple(read(part, False, depth + 1) for part in unions))
    if text in ("\\mathbb{R}", "(-\\infty, \\infty)"):
        ends = Node("leaf", "-\\infty"), Node("leaf", "\\infty")
        return Node("tuple", text, ends, "()")
    if text in ("\\{\\}", "\\{ \\}", "\\phi"):
        return Node("leaf", "\\emptyset")
    return _bracketed(text, depth) or Node("leaf", text)


def _list(text: str, thousands: bool, depth: int) -> Node | None:
    """Parts between commas, `and` and `or`, and both of `\\pm`."""
    guarded = _THOUSANDS.sub(lambda match: match[0].replace(",", "\x00"), text) if thousands else text
    parts, signs = split(_JOINS, guarded)
    parts = [part.replace("\x00", ",").strip() for part in parts]
    kept = [part for part in parts if part]
    if len(kept) > 1 and parts[0] and parts[-1]:
        nodes = [read(part, thousands, depth + 1) for part in kept]
        both = any("and" in sign or "land" in sign or sign == "和" for sign in signs)
        return (_both(nodes) if both else None) or _shared_name(Node("list", text, tuple(nodes)))
    if signs:
        return Node("leaf", text)
    if "\\pm" in text and depth < _DEEPEST:
        first = text.replace("\\pm", "+").replace("\\mp", "-")
        second = text.replace("\\pm", "-").replace("\\mp", "+")
        nodes = [read(part, thousands, _DEEPEST - 3) for part in (first, second)]
        return _shared_name(Node("list", text, tuple(nodes)))
    return None


def _shared_name(node: Node) -> Node:
    """Of `x=1, 2` and `x=1, x=2` the one name belongs to all."""
    names = {part.name for part in node.parts if part.name}
    if len(names) == 1 and (node.parts[0].name or all(part.name for part in node.parts)):
        (name,) = names
        # Inequalities keep theirs, by which they are told from points.
        return replace(node, name=name, parts=tuple(replace(part, name="") for part in node.parts))
    return node


def _both(nodes: list[Node]) -> Node | None:
    """`x > 2` and `x < 5` are one interval."""
    if len(nodes) != 2 or not all(node.ordered for node in nodes) or nodes[0].name != nodes[1].name:
        return None
    for below, above in (nodes, nodes[::-1]):
        (low, infinity), (minus_infinity, high) = below.parts, above.parts
        if (infinity.text, minus_infinity.text) == ("\\infty", "-\\infty"):
            return replace(nodes[0], parts=(low, high), brackets=below.brackets[0] + above.brackets[1])
    return None


def _named(text: str, thousands: bool, depth: int) -> Node | None:
    """`x = 5`, `f(2) = 5`, `\\text{Area} = 12`: what is said of the name."""
    equal = sides(text)
    if len(equal) == 2 and _UNKNOWN.fullmatch(equal[1]) and not is_name(equal[0]):
        equal.reverse()
    if len(equal) < 2 or not (is_name(equal[0]) or _NAMES.fullmatch(equal[0])) or not all(equal):
        return None
    statement = read("=".join(equal[1:]), thousands, depth + 1)
    names = _NAMES.fullmatch(equal[0]) and [name.strip() for name in equal[0].strip("() ").split(",")]
    if names and statement.kind == "tuple" and len(names) == len(statement.parts):
        parts = tuple(replace(part, name=name) for name, part in zip(names, statement.parts, strict=True))
        return Node("list", text, parts)
    return replace(statement, name=equal[0])


def is_name(text: str) -> bool:
    """Whether it names what is asked for, as `x`, `f(2)`, `|AB|` and `\\text{Area}` do, and denies nothing."""
    if not _NAME.fullmatch(text) or _DENIALS.search(text):
        return False
    command = _COMMAND_ALONE.match(text)
    return command is None or command[0] not in _CONSTANTS


def _interval(text: str, depth: int) -> Node | None:
    """`x < 3` and `2 < x \\le 5` for one unknown that stands alone."""
    parts, signs = split(_ORDERS, text)
    parts = [part.strip() for part in parts]
    if len(parts) not in (2, 3) or not all(parts):
        return None
    unknown = parts[1] if len(parts) == 3 else next(filter(_UNKNOWN.fullmatch, parts), "")
    less = {sign in ("<", "\\le") for sign in signs}
    if not _UNKNOWN.fullmatch(unknown) or len(less) > 1:
        return None
    if less == {False}:  # from the least to the greatest
        parts, signs = parts[::-1], signs[::-1]
    if len(parts) == 2 and parts[0] == unknown:
        parts, signs = ["-\\infty", *parts], ["<", *signs]
    elif len(parts) == 2:
        parts, signs = [*parts, "\\infty"], [*signs, "<"]
    ends = (parts[0], parts[2])
    brackets = ("(" if signs[0] in "<>" else "[") + (")" if signs[1] in "<>" else "]")
    if any(re.search(rf"(?<![A-Za-z\\]){re.escape(unknown)}(?![A-Za-z])", end) for end in ends):
        return None
    nodes = tuple(read(end, True, depth + 1) for end in ends)
    return Node("tuple", text, nodes, brackets, unknown, ordered=True)


def _bracketed(text: str, depth: int) -> Node | None:
    """`(1,2)`, `[1,2)`, `\\{1,2\\}`; a parenthesis around one thing says nothing."""
    for opening, closing in _BRACKETS:
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening + closing):
            inner = text[len(opening) : -len(closing)]
            parts, signs = split(_JOINS, inner)
            if len(parts) == 1 and not _balanced(inner):
                continue
            if opening in ("\\{", "{") and (signs or opening == "\\{"):
                nodes = tuple(read(part, False, depth + 1) for part in parts)
                return Node("set", text, nodes)
            if len(parts) > 1 and all(part.strip() for part in parts):
                nodes = tuple(read(part, False, depth + 1) for part in parts)
                brackets = "()" if opening == "\\langle" else opening + closing
                return Node("tuple", text, nodes, brackets)
            if opening in "({" and opening + closing in ("()", "{}"):
                return read(inner, True, depth + 1)
    return None


def _balanced(text: str) -> bool:
    depth = 0
    for match in _EQUALS.finditer(text):
        depth += (match[0] in _OPENING) - (match[0] in _CLOSING)
        if depth < 0:
            return False
    return depth == 0


def _system(text: str, thousands: bool, depth: int) -> Node | None:
    """The lines of a system, which are no cases of one function, as a list."""
    match = _SYSTEM.fullmatch(text)
    lines = [line.strip(" ,;") for line in split(_ROWS, match[3].replace("&=", "="))[0]] if match else []
    lines = [line for line in lines if line]
    if len(lines) < 2 or any(mark in line for line in lines for mark in (",", "&", "\\text", "\\begin")):
        return None
    return _list(", ".join(lines), thousands, depth + 1)


def _matrix(text: str, depth: int) -> Node | None:
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match[4]:
        return None
    rows, _ = split(_ROWS, match[4].replace("\\hline", ""))
    cells = [[cell.strip() for cell in split(_COLUMNS, row)[0]] for row in rows if row.strip()]
    if factor := match[1].replace("-", "-1") if match[1] == "-" else match[1]:
        cells = [[f"{factor} \\cdot ({cell})" for cell in row] for row in cells]
    if match[5] and len({len(row) for row in cells}) == 1:
        cells = [list(column) for column in zip(*cells, strict=True)]
    nodes = [Node("row", "", tuple(read(cell, True, depth + 1) for cell in row)) for row in cells]
    return Node("matrix", text, tuple(nodes))
