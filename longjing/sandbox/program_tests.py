"""Judging a program by tests. What is expected never goes where the program is: it is compared here, afterwards.

So there is nothing in the sandbox to read, to overwrite or to forge. All that comes out is text, and its only weight is
whether it is the expected text.
"""

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import Any, Literal, NoReturn

from longjing.sandbox.execution import ExecutionResult, SandboxError, SandboxRunner, printable

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
        if not _same_value(json.loads(json.dumps(self.expected, allow_nan=False)), self.expected):
            raise ValueError(f"a test expects {self.expected!r}, which JSON can't say")
        json.dumps(self.arguments, allow_nan=False)


_Test = StdioTest | CallTest
Tests = Sequence[_Test]


@dataclass(frozen=True)
class TestResult:
    """`unjudged`: the sandbox failed, and nothing is known about the program. `reason` says what is wrong, without the
    expected text. `execution` is what became of the program."""

    verdict: Literal["correct", "wrong", "unjudged"]
    reason: str
    execution: ExecutionResult | None

    __test__ = False  # for pytest, which takes the name for one of its own


def run_tests(runner: SandboxRunner, program: str, tests: Tests, workers: int = 1) -> list[TestResult]:
    """Run the program once for each test, each time as if it were the first, `workers` at a time. Exact."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda test: _run(runner, program, test), tests))


def judge_program(
    runner: SandboxRunner, program: str, tests: Tests, tolerance: float = 0.0, seconds: float | None = None
) -> list[TestResult]:
    """A verdict on the tests, as of `run_tests`, but with all calls in one process, one after the other, up to the
    first that fails: quicker by as many times as there are calls. What a program remembers of the earlier ones is its
    own affair.

    `tolerance`: what a float may differ from the expected one, absolutely or as a share of it. `seconds`: of all runs
    together; what comes after them is wrong.
    """
    calls = [test for test in tests if isinstance(test, CallTest)]
    call_results = _call(runner, program, calls, tolerance, seconds) if calls else []
    seconds = _left(seconds, call_results[0]) if call_results else seconds
    remaining = iter(call_results)
    results = []
    for test in tests:
        if isinstance(test, CallTest):
            results.append(next(remaining))
        else:
            results.append(_run(runner, program, test, tolerance, seconds))
            seconds = _left(seconds, results[-1])
    return results


def _left(seconds: float | None, result: TestResult) -> float | None:
    """What of the seconds a run has left."""
    return seconds if seconds is None or result.execution is None else seconds - result.execution.wall_seconds


def _run(
    runner: SandboxRunner, program: str, test: _Test, tolerance: float = 0.0, seconds: float | None = None
) -> TestResult:
    if isinstance(test, CallTest):
        return _call(runner, program, [test])[0]
    if seconds is not None and seconds <= 0:
        return TestResult("wrong", "the tests before it took all the time", None)
    try:
        execution = runner.run(program, test.stdin.encode(), None, seconds)
    except SandboxError as error:
        return TestResult("unjudged", str(error), None)
    if not execution.ok:
        return TestResult("wrong", _failure(execution), execution)
    output, expected = _lines(execution.stdout), _lines(test.expected.encode())
    right = output == expected or _same_lines(output, expected, tolerance)
    return _compared(right, execution.stdout, execution)


def _call(
    runner: SandboxRunner, program: str, tests: Sequence[CallTest], tolerance: float = 0.0, seconds: float | None = None
) -> list[TestResult]:
    """The calls of one process; each leaves a line."""
    calls = json.dumps([(test.function, test.arguments) for test in tests])
    source = program.encode("utf-8", errors="surrogatepass")
    try:
        execution = runner.run(_CALLER, calls.encode(), {"solution.py": source}, seconds)
    except SandboxError as error:
        return [TestResult("unjudged", str(error), None)] * len(tests)
    lines = execution.stdout.rstrip().split(b"\n")
    # The program has written lines of its own among the results: none can be believed.
    if len(lines) > len(tests):
        reason = f"it gave {_shown(execution.stdout)} for {len(tests)} calls"
        return [TestResult("wrong", reason, execution)] * len(tests)
    if not execution.ok:  # the last one that was begun failed, or what came after it
        lines = [line for line in lines if line][: len(tests) - 1]
    results = [_returned(line, test, execution, tolerance) for line, test in zip(lines, tests, strict=False)]
    reason = "it returned too little" if execution.ok else _failure(execution)
    return results + [TestResult("wrong", reason, execution)] * (len(tests) - len(lines))


def _returned(line: bytes, test: CallTest, execution: ExecutionResult, tolerance: float) -> TestResult:
    try:
        right = _same_value(json.loads(line, parse_constant=_refuse), test.expected, tolerance)
    except (ValueError, RecursionError):  # no JSON, or nested beyond all measure
        return TestResult("wrong", f"{test.function} returned nothing that can be read", execution)
    return _compared(right, line, execution)


def _compared(right: bool, output: bytes, execution: ExecutionResult) -> TestResult:
    if right:
        return TestResult("correct", "correct", execution)
    return TestResult("wrong", f"it gave {_shown(output)}", execution)


def _failure(execution: ExecutionResult) -> str:
    """What ended the program, and the last line of its errors."""
    last = printable(execution.stderr).rstrip().rpartition("\n")[2]
    return f"{execution}{last and ': '}{last[:_SHOWN]}"


def _shown(output: bytes) -> str:
    return repr(printable(output)[:_SHOWN])


def _lines(output: bytes) -> list[bytes]:
    return [line.rstrip() for line in output.rstrip().splitlines()]


def _same_lines(output: list[bytes], expected: list[bytes], tolerance: float) -> bool:
    """Whether all is as expected, word by word, but for floats that are near enough."""
    words, expected_words = [line.split() for line in output], [line.split() for line in expected]
    if [*map(len, words)] != [*map(len, expected_words)]:
        return False
    pairs = zip(chain(*words), chain(*expected_words), strict=True)
    return all(word == expected_word or _close(word, expected_word, tolerance) for word, expected_word in pairs)


def _close(word: bytes, expected: bytes, tolerance: float) -> bool:
    """A whole number has to be met: it may count something, or be a hash."""
    if not tolerance or not _FLOAT.fullmatch(expected) or not _NUMBER.fullmatch(word):
        return False
    return _within(float(word), float(expected), tolerance)


def _within(value: float, expected: float, tolerance: float) -> bool:
    return isfinite(value) and isfinite(expected) and abs(value - expected) <= tolerance * max(1.0, abs(expected))


def _same_value(value: Any, expected: Any, tolerance: float = 0.0) -> bool:
    """Equal, and of the same types throughout; floats within the tolerance, which a whole number may meet as well."""
    if tolerance and type(value) is int and type(expected) is float:
        return abs(value) < 10**308 and _within(float(value), expected, tolerance)
    if type(value) is not type(expected):
        return False
    if isinstance(value, list):
        pairs = zip(value, expected, strict=False)
        return len(value) == len(expected) and all(_same_value(*pair, tolerance) for pair in pairs)
    if isinstance(value, dict):
        keys = value.keys()
        return keys == expected.keys() and all(_same_value(value[key], expected[key], tolerance) for key in keys)
    return bool(value == expected) or (isinstance(value, float) and _within(value, expected, tolerance))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
