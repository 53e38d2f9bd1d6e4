"""Judging a program by tests. What is expected never goes where the program is: it is compared here, afterwards.

So there is nothing in the sandbox to read, to overwrite or to forge. All that comes out is text, and its only weight is
whether it is the expected text.
"""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, NoReturn

from longjing.sandbox.outcome import ExecutionResult, SandboxError, SandboxRunner, printable

# Standard output belongs to the result alone; what the program prints goes to standard error.
_CALLER = """\
import json, os, sys
if hasattr(os, "dup2"):
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
else:  # in WebAssembly
    result, sys.stdout = sys.stdout, sys.stderr
given = json.load(sys.stdin)
sys.argv = ["solution.py"]
import solution
with result as file:
    for function, arguments in given:
        json.dump(getattr(solution, function)(*arguments), file, allow_nan=False)
        file.write("\\n")
        file.flush()
"""
_SHOWN = 200  # characters of an output in a reason
_NUMBER = re.compile(rb"[-+]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,4})?")
_FLOAT = re.compile(rb"[-+]?(?:\d{1,400}\.\d{0,400}|\.\d{1,400}|\d{1,400}(?=[eE]))(?:[eE][-+]?\d{1,4})?")


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
    outcome: ExecutionResult | None

    __test__ = False  # for pytest, which takes the name for one of its own


def run_tests(
    runner: SandboxRunner, program: str, tests: Sequence[StdioTest | CallTest], workers: int = 1
) -> list[TestOutcome]:
    """Run the program once for each test, each time as if it were the first, `workers` at a time. Exact."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda test: _run(runner, program, test), tests))


def judge_program(
    runner: SandboxRunner,
    program: str,
    tests: Sequence[StdioTest | CallTest],
    tolerance: float = 0.0,
    seconds: float | None = None,
) -> list[TestOutcome]:
    """As `run_tests`, but all calls in one process, one after the other, up to the first that fails: quicker by as many
    times as there are calls. What a program remembers of the earlier ones is its own affair.

    `tolerance`: what a float may differ from the expected one, absolutely or as a share of it. `seconds`: of all runs
    together; what comes after them is wrong.
    """
    calls = [test for test in tests if isinstance(test, CallTest)]
    found = _call(runner, program, calls, tolerance, seconds) if calls else []
    called, left = iter(found), seconds
    if found and found[0].outcome and left is not None:
        left -= found[0].outcome.wall_seconds
    outcomes = []
    for test in tests:
        if isinstance(test, CallTest):
            outcomes.append(next(called))
            continue
        outcome = _run(runner, program, test, tolerance, left)
        if outcome.outcome and left is not None:
            left -= outcome.outcome.wall_seconds
        outcomes.append(outcome)
    return outcomes


def _run(
    runner: SandboxRunner,
    program: str,
    test: StdioTest | CallTest,
    tolerance: float = 0.0,
    seconds: float | None = None,
) -> TestOutcome:
    if isinstance(test, CallTest):
        return _call(runner, program, [test])[0]
    if seconds is not None and seconds <= 0:
        return TestOutcome("wrong", "the tests before it took all the time", None)
    try:
        outcome = runner.run(program, test.stdin.encode(), None, seconds)
    except SandboxError as error:
        return TestOutcome("unjudged", str(error), None)
    if not outcome.ok:
        return TestOutcome("wrong", _complaint(outcome), outcome)
    given, expected = _lines(outcome.stdout), _lines(test.expected.encode())
    return _compared(given == expected or _near(given, expected, tolerance), outcome.stdout, outcome)


def _call(
    runner: SandboxRunner,
    program: str,
    tests: Sequence[CallTest],
    tolerance: float = 0.0,
    seconds: float | None = None,
) -> list[TestOutcome]:
    """The calls of one process; each leaves a line."""
    given = json.dumps([(test.function, test.arguments) for test in tests])
    source = program.encode("utf-8", errors="surrogatepass")
    try:
        outcome = runner.run(_CALLER, given.encode(), {"solution.py": source}, seconds)
    except SandboxError as error:
        return [TestOutcome("unjudged", str(error), None)] * len(tests)
    lines = outcome.stdout.rstrip().split(b"\n")
    if len(lines) > len(tests):
        return [
            TestOutcome("wrong", f"it gave {_shown(outcome.stdout)} for {len(tests)} calls", outcome)
        ] * len(tests)
    if not outcome.ok:  # the last one that was begun failed, or what came after it
        lines = [line for line in lines if line][: len(tests) - 1]
    results = [_returned(line, test, outcome, tolerance) for line, test in zip(lines, tests, strict=False)]
    failed = "it returned too little" if outcome.ok else _complaint(outcome)
    return results + [TestOutcome("wrong", failed, outcome)] * (len(tests) - len(lines))


def _returned(line: bytes, test: CallTest, outcome: ExecutionResult, tolerance: float) -> TestOutcome:
    try:
        right = _same(json.loads(line, parse_constant=_refuse), test.expected, tolerance)
    except (ValueError, RecursionError):  # no JSON, or nested beyond all measure
        return TestOutcome("wrong", f"{test.function} returned nothing that can be read", outcome)
    return _compared(right, line, outcome)


def _compared(right: bool, given: bytes, outcome: ExecutionResult) -> TestOutcome:
    return TestOutcome(
        "correct" if right else "wrong", "correct" if right else f"it gave {_shown(given)}", outcome
    )


def _complaint(outcome: ExecutionResult) -> str:
    last = printable(outcome.stderr).rstrip().rpartition("\n")[2]
    return f"{outcome}{last and ': '}{last[:_SHOWN]}"


def _shown(output: bytes) -> str:
    return repr(printable(output)[:_SHOWN])


def _lines(output: bytes) -> list[bytes]:
    return [line.rstrip() for line in output.rstrip().splitlines()]


def _near(given: list[bytes], expected: list[bytes], tolerance: float) -> bool:
    """Whether all is as expected, word by word, but for floats that are near enough."""
    return len(given) == len(expected) and all(
        len(words) == len(others)
        and all(
            word == other or _close(word, other, tolerance) for word, other in zip(words, others, strict=True)
        )
        for words, others in (
            (line.split(), right.split()) for line, right in zip(given, expected, strict=True)
        )
    )


def _close(given: bytes, expected: bytes, tolerance: float) -> bool:
    """A whole number has to be met: it may count something, or be a hash."""
    if not tolerance or not _FLOAT.fullmatch(expected) or not _NUMBER.fullmatch(given):
        return False
    return _within(float(given), float(expected), tolerance)


def _within(one: float, other: float, tolerance: float) -> bool:
    return isfinite(one) and isfinite(other) and abs(one - other) <= tolerance * max(1.0, abs(other))


def _same(one: Any, other: Any, tolerance: float = 0.0) -> bool:
    """Equal, and of the same types throughout; floats within the tolerance, which a whole number may meet as well."""
    if tolerance and type(one) is int and type(other) is float:
        return abs(one) < 10**308 and _within(float(one), other, tolerance)
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(
            _same(*pair, tolerance) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key], tolerance) for key in one)
    return bool(one == other) or (isinstance(one, float) and _within(one, other, tolerance))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
