"""Every regular expression of the package takes a time that grows as its text does: none backtracks without end.

All patterns are found by reading the source, compiled or not, and matched with long texts that are made from each:
what it repeats, again and again, with what can't follow. What a person's settings, not a text, make a pattern of is
listed below, each with the reason why it is no danger.
"""

import ast
import importlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

import longjing

PACKAGE = Path(longjing.__file__).parent
LENGTH = 40_000  # characters: what is linear takes milliseconds, and what is quadratic a second at least
SECONDS = 0.3  # of this process's own time, so that a busy machine is no matter
CALLS = ("compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
# Modules whose every pattern sees texts of so many characters at most.
BOUNDED = {
    "longjing.problems.expression": 600,  # `plain` and `read_number` refuse what is longer
    "longjing.verifiers.numbers": 600,
    "longjing.verifiers.mathematics": 2_000,
    "longjing.verifiers.equality": 2_000,  # as above, and in a process with a limit on its time
    "longjing.verifiers.string_match": 2_000,
    "longjing.tasks.linter.reward_hacks": 10_000,  # prompts of one's own problems
    "longjing.recipe.yaml_document": 2_000,  # one value of one's own recipe
    "longjing.toys.arithmetic.corpus": 2_000,  # expressions that the package wrote
    "longjing.data.demonstrations": 1_000,  # problems that reasoning-gym wrote
}
# Patterns that are made as the program runs.
MADE = {
    "longjing.text.tokenizer": 2,  # names of tokens, escaped
    "longjing.data.conversations": 1,  # the same
    "longjing.verifiers.worker": 1,  # a user's pattern, in a process with a limit on its time
    "longjing.verifiers.string_match": 1,  # the same, compiled to see whether it can be
    "longjing.verifiers.judge": 1,  # names of a template's tags, escaped, behind one class of characters
    "longjing.verifiers.equality.structure": 2,  # signs of the package's own; an unknown's name, escaped
    "longjing.tasks.linter.problem_checks": 1,  # an answer, escaped, behind a mark; spaces stand alone in it
    "longjing.problems.language": 1,  # tried below
}


@dataclass(frozen=True)
class Found:
    """A pattern, where it stands, and the methods it is used by (all, if that can't be seen)."""

    where: str
    pattern: "re.Pattern[Any]"
    methods: tuple[str, ...]
    length: int


def patterns(path: Path, module: Any) -> tuple[list[Found], int]:
    """All patterns in the source of a module, and how many of them only the running program knows."""
    tree = ast.parse(path.read_text("utf-8"))
    used: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.setdefault(node.value.id, set()).add(node.attr)
    names = {
        id(node.value): node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    listed, made = [], 0
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in CALLS
        ):
            continue
        flags = [word.value for word in node.keywords if word.arg == "flags"]
        if node.func.attr == "compile":
            flags += node.args[1:]
        try:
            pattern, *rest = (
                eval(compile(ast.Expression(part), str(path), "eval"), vars(module)) for part in (node.args[0], *flags)
            )
            compiled = re.compile(pattern, *rest)
        except (NameError, TypeError):
            made += 1
            continue
        methods = tuple(sorted(used.get(names.get(id(node), ""), ()))) or ("fullmatch", "finditer")
        length = BOUNDED.get(module.__name__, BOUNDED.get(module.__name__.rpartition(".")[0], LENGTH))
        listed.append(Found(f"{path.name}, line {node.lineno}", compiled, methods, length))
    return listed, made


def examples(parsed: Any) -> Iterator[str]:
    """A text for each item of a parsed pattern, as short as may be."""
    for kind, value in parsed:
        name = str(kind)
        if name == "LITERAL":
            yield chr(value)
        elif name == "IN":
            yield _of_class(value)
        elif name in ("ANY", "NOT_LITERAL"):
            yield "x"
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, _, inside = value
            yield "".join(examples(inside)) * max(1, least)
        elif name == "SUBPATTERN":
            yield "".join(examples(value[-1]))
        elif name == "ATOMIC_GROUP":
            yield "".join(examples(value))
        elif name == "BRANCH":
            yield "".join(examples(value[1][0]))
        else:
            yield ""  # what takes no characters, or refers to earlier ones


def _of_class(items: list[Any]) -> str:
    kinds = {"CATEGORY_DIGIT": "0", "CATEGORY_SPACE": " ", "CATEGORY_WORD": "a"}
    for kind, value in items:
        if str(kind) == "LITERAL":
            return chr(value)
        if str(kind) == "RANGE":
            return chr(value[0])
        if str(kind) == "CATEGORY":
            return kinds.get(str(value), "!")
        if str(kind) == "NEGATE":
            return "x"
    return "x"


def pumps(parsed: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """For everything that repeats: what comes before it, and what it repeats."""
    for item, example in zip(parsed, examples(parsed), strict=True):
        kind, value = item
        name = str(kind)
        inner = value[2] if name.endswith("_REPEAT") else value[-1] if name == "SUBPATTERN" else None
        inner = value if name == "ATOMIC_GROUP" else inner
        if name.endswith("_REPEAT") and value[1] > 20:
            yield before, "".join(examples(inner))
        if inner is not None:
            yield from pumps(inner, before)
        if name == "BRANCH":
            for branch in value[1]:
                yield from pumps(branch, before)
        before += example


GENERAL = (
    " ",
    "\n",
    "a",
    "0",
    "(",
    "{",
    "\\",
    ",",
    "字",
    "the ",
    "a1",
    "0.",
    "```\n",
    "<think>",
    "\\boxed{",
    "VERDICT:",
)


def texts(pattern: "re.Pattern[Any]", length: int) -> Iterator[Any]:
    parsed = list(parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG))
    pumped = list(dict.fromkeys(pumps(parsed)))
    repeated = dict.fromkeys(repeat for _, repeat in pumped)
    joined = [(before, one + other) for (before, one), other in product(pumped[:6], repeated)]
    joined += [(before, pump) for (before, _), pump in product(pumped, "\n x")]
    for before, pump in dict.fromkeys([*pumped, *joined, *(("", pump) for pump in GENERAL)]):
        if not pump:
            continue
        for end in ("", "\x00"):
            text = before + pump * (length // len(pump)) + end
            yield text if isinstance(pattern.pattern, str) else text.encode()


class _Slow(Exception):
    pass


def slow(pattern: Found) -> Any:
    """The beginning of a text that takes the pattern too long, None if none of those tried does."""

    def ring(*_: Any) -> None:
        raise _Slow

    previous = signal.signal(signal.SIGPROF, ring)
    try:
        for text in texts(pattern.pattern, pattern.length):
            for method in pattern.methods:
                # Once more, if it was slow: the machine may have been, though time is this process's own.
                if not any(_in_time(pattern.pattern, method, text) for _ in range(2)):
                    return method, text[:60]
    finally:
        signal.signal(signal.SIGPROF, previous)
    return None


def _in_time(pattern: "re.Pattern[Any]", method: str, text: Any) -> bool:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the engine looks for signals as it goes
    try:
        if method in ("fullmatch", "match", "search"):
            getattr(pattern, method)(text)
        else:
            for _ in pattern.finditer(text):
                pass
        return True
    except _Slow:
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _modules() -> list[tuple[Path, str]]:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if "re." in path.read_text("utf-8"))
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    pairs = zip(paths, (name.removesuffix(".__init__") for name in names), strict=True)
    return [(path, name) for path, name in pairs if re.search(r"\bre\.\w+\(", path.read_text("utf-8"))]


@pytest.mark.parametrize(("path", "name"), _modules(), ids=lambda value: value if isinstance(value, str) else "")
def test_no_pattern_of_the_package_takes_longer_than_its_text(path: Path, name: str) -> None:
    compiled, made = patterns(path, importlib.import_module(name))
    assert made == MADE.get(name, 0), f"{name} makes a pattern that isn't known here: bound it, and list it"
    late = {each.where: (each.pattern.pattern, text) for each in compiled if (text := slow(each)) is not None}
    assert not late


def test_the_pattern_that_a_table_makes_is_linear() -> None:
    from longjing.problems.language import _marked_token

    assert slow(Found("language.py", _marked_token(), ("finditer",), 20_000)) is None


BAD = r"""
import re
WORDS = r"[A-Za-z]+"
NESTED = re.compile(rf"(?:{WORDS}\s?)+\d", re.IGNORECASE)
class Holder:
    fence = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
def inline(text):
    return re.sub(r"\s+$", "", text)
def made(word):
    return re.search(word + "x", "y")
GOOD = re.compile(r"a+b|\d{3}")
"""


def test_the_test_finds_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.py").write_text(BAD, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    compiled, made = patterns(tmp_path / "planted.py", importlib.import_module("planted"))
    assert made == 1, "what only the running program knows is counted"
    verdicts = {each.pattern.pattern: slow(each) is not None for each in compiled}
    assert verdicts == {
        r"(?:[A-Za-z]+\s?)+\d": True,
        r"```(?:json)?\s*\n(.*)\n\s*```": True,
        r"\s+$": True,
        r"a+b|\d{3}": True,  # searched, it begins anew at each a
    }
    assert slow(Found("", re.compile(r"a+b|\d{3}"), ("match", "fullmatch"), LENGTH)) is None


@pytest.mark.parametrize(
    "bad",
    [r"(a+)+b", r"(a|a)*b", r"(.*?,)*x", r"(\w+\s*)+:", r"\d*\d*\d*x", r"(?:the\s+)?(?:a\s+)?\s*[\s:]*!", r"x*x*$"],
)
def test_patterns_that_backtrack_are_found(bad: str) -> None:
    assert slow(Found("", re.compile(bad), ("fullmatch", "search"), LENGTH)) is not None
