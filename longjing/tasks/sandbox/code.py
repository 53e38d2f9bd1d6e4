"""Judging a program by tests. What is expected never goes where the program is: it is compared here, afterwards.

So there is nothing in the sandbox to read, to overwrite or to forge. All that comes out is text, and its only weight is
whether it is the expected text.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from longjing.tasks.sandbox.outcome import Outcome, Runner, SandboxError, printable

# Standard output belongs to the result alone; what the program prints goes to standard error.
_CALLER = """\
import json, os, sys
result = os.dup(1)
os.dup2(2, 1)
given = json.load(sys.stdin)
sys.argv = ["solution.py"]
import solution
returned = getattr(solution, given["function"])(*given["arguments"])
with open(result, "w") as file:
    json.dump(returned, file, allow_nan=False)
"""
_SHOWN = 200  # characters of an output in a reason


@dataclass(frozen=True)
class StdioTest:
    """What goes to standard input, and what has to come out, but for spaces at the ends of lines and empty lines at the
    end."""

    stdin: str
    expected: str


@dataclass(frozen=True)
class CallTest:
    """A function of the program, its arguments and what it has to return, all as JSON has them.

    Types must agree: neither `1.0` nor `True` is 1. A tuple comes out as a list. Raises ValueError for what JSON
    hasn't got, NaN among it.
    """

    function: str
    arguments: list[Any]
    expected: Any

    def __post_init__(self) -> None:
        if not _same(json.loads(json.dumps(self.expected, allow_nan=False)), self.expected):
            raise ValueError(f"a test expects {self.expected!r}, which JSON can't say")
        json.dumps(self.arguments, allow_nan=False)


@dataclass(frozen=True)
class TestOutcome:
    """`unjudged`: the sandbox failed, and nothing is known about the program. `reason` says what is wrong, without the
    expected text. `outcome` is what became of the program."""

    verdict: Literal["correct", "wrong", "unjudged"]
    reason: str
    outcome: Outcome | None

    __test__ = False  # for pytest, which takes the name for one of its own


def run_tests(
    runner: Runner, program: str, tests: Sequence[StdioTest | CallTest], workers: int = 1
) -> list[TestOutcome]:
    """Run the program once for each test, each time as if it were the first, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda test: _run(runner, program, test), tests))


def _run(runner: Runner, program: str, test: StdioTest | CallTest) -> TestOutcome:
    try:
        if isinstance(test, StdioTest):
            outcome = runner.run(program, test.stdin.encode())
        else:
            given = json.dumps({"function": test.function, "arguments": test.arguments})
            source = program.encode("utf-8", errors="surrogatepass")
            outcome = runner.run(_CALLER, given.encode(), {"solution.py": source})
    except SandboxError as error:
        return TestOutcome("unjudged", str(error), None)
    mistake = _mistake(outcome, test)
    return TestOutcome("wrong" if mistake else "correct", mistake or "correct", outcome)


def _mistake(outcome: Outcome, test: StdioTest | CallTest) -> str | None:
    """What is wrong with what came out, None if nothing is."""
    if not outcome.ok:
        last = printable(outcome.stderr).rstrip().rpartition("\n")[2]
        return f"{outcome}{last and ': '}{last[:_SHOWN]}"
    if isinstance(test, StdioTest):
        right = _lines(outcome.stdout) == _lines(test.expected.encode())
    else:
        try:
            right = _same(json.loads(outcome.stdout, parse_constant=_refuse), test.expected)
        except (ValueError, RecursionError):  # no JSON, or nested beyond all measure
            return f"{test.function} returned nothing that can be read"
    return None if right else f"it gave {printable(outcome.stdout)[:_SHOWN]!r}"


def _lines(output: bytes) -> list[bytes]:
    return [line.rstrip() for line in output.rstrip().splitlines()]


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
