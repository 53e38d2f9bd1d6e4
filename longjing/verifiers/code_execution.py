"""Programs that have to pass tests: run in the sandbox, judged here.

A problem's tests stand in its data under `tests`, a list or a text of JSON that is one: `{"stdin": ..., "stdout": ...}`
and `{"function": ..., "arguments": [...], "returns": ...}`.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from math import ceil
from typing import Any, Literal

from pydantic import Field

from longjing.problems import Problem
from longjing.sandbox import CallTest, SandboxLimits, SandboxRunner, StdioTest, judge_program, open_sandbox
from longjing.sandbox.program_tests import Tests
from longjing.verifiers.base import AnswerSettings, AnswerVerifier, Judgement
from longjing.verifiers.pool import VerifierError

_MOST_CACHED = 20_000  # programs with their tests; many samples are the same
MOST_TESTS = 200  # tests of a problem
_FENCE = re.compile(r"```[a-zA-Z0-9]*[ \t]*\n(.*?)```", re.DOTALL)
_FORMS = ({"stdin", "stdout"}, {"function", "arguments", "returns"})


class Programs:
    """Judges programs in one sandbox, which is kept warm, each in as many `seconds`. Any number of threads may ask.

    Raises UserError where programs can't be isolated: no isolation, no execution.
    """

    def __init__(self, runner: SandboxRunner, seconds: float | None = None) -> None:
        self._runner, self._seconds = runner, seconds
        self._cache: OrderedDict[tuple[str, str, float], list[str]] = OrderedDict()
        self._lock = threading.Lock()

    def mistakes(self, program: str, tests: Tests, tolerance: float = 0.0) -> list[str]:
        """What went wrong in each test, "" where nothing did. Raises VerifierError if nobody knows."""
        key = (program, repr(tests), tolerance)
        with self._lock:
            mistakes = self._cache.get(key)
        if mistakes is None:
            results = judge_program(self._runner, program, tests, tolerance, self._seconds)
            unjudged = next((result.reason for result in results if result.verdict == "unjudged"), None)
            if unjudged is not None:
                raise VerifierError(unjudged)  # and it isn't remembered: the next time may go well
            mistakes = ["" if result.verdict == "correct" else result.reason for result in results]
            with self._lock:
                self._cache[key] = mistakes
                if len(self._cache) > _MOST_CACHED:
                    self._cache.popitem(last=False)
        return mistakes


@cache
def programs(seconds: float, megabytes: int, run_seconds: float) -> Programs:
    """The one of this process with these limits of each verdict. Raises UserError where programs can't be isolated."""
    longest = min(seconds, run_seconds)
    limits = SandboxLimits(wall_seconds=longest, cpu_seconds=ceil(longest), memory_megabytes=megabytes)
    return Programs(open_sandbox(limits), seconds)


class CodeExecutionSettings(AnswerSettings):
    final: Literal["box", "text"] = Field(
        "text", description="where the program is: in the one box, or in all after the reasoning"
    )
    seconds: float = Field(30.0, gt=0, le=600, description="that all runs of a verdict may take together")
    run_seconds: float = Field(5.0, gt=0, le=600, description="that one run may take")
    megabytes: int = Field(512, ge=64, description="of memory that a run may take")
    partial: bool = Field(False, description="pay the share of the tests that are passed, too")
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="that floats may be off by, absolutely or as a share; 0 is exact"
    )


class CodeExecution(AnswerVerifier[CodeExecutionSettings]):
    """A Python program: all of the answer, or the one code fence in it, and it passes all tests.

    Tests by standard input have a run each; all tests by function share one, and end with the first that fails.
    """

    name = "code"
    settings_type = CodeExecutionSettings
    needs_answer = False

    def __init__(self, settings: CodeExecutionSettings) -> None:
        super().__init__(settings)
        self._programs = programs(settings.seconds, settings.megabytes, settings.run_seconds)

    def compare(self, problem: Problem, answer: str) -> Judgement:
        tests = read_tests(problem.data.get("tests"))
        fences = _FENCE.findall(answer)
        if len(fences) > 1 or ("```" in answer and not fences):
            return Judgement("wrong", 0.0, f"{len(fences) or 'half a'} code fences, not one")
        mistakes = self._programs.mistakes(fences[0] if fences else answer, tests, self.options.tolerance)
        wrong = [mistake for mistake in mistakes if mistake]
        if not wrong:
            return Judgement("correct", 1.0, "correct")
        passed = len(mistakes) - len(wrong)
        score = passed / len(mistakes) if self.options.partial else 0.0
        return Judgement("wrong", score, f"{passed} of {len(mistakes)} tests passed; {wrong[0]}")


def read_tests(tests: Any) -> list[StdioTest | CallTest]:
    """The tests of a problem. Raises VerifierError if they are none: that is no fault of a program's."""
    try:
        rows = json.loads(tests) if isinstance(tests, str) else tests
        if not isinstance(rows, list) or not 0 < len(rows) <= MOST_TESTS:
            raise ValueError(f"not a list of 1 to {MOST_TESTS}")
        return [_read_test(row) for row in rows]
    except (ValueError, TypeError, RecursionError) as error:
        raise VerifierError(f"the problem has no `tests` that can be read: {error}") from None


def _read_test(row: Any) -> StdioTest | CallTest:
    if not isinstance(row, Mapping) or row.keys() not in _FORMS:
        raise ValueError("a test has stdin and stdout, or function, arguments and returns")
    if "stdin" in row:
        if not all(isinstance(row[side], str) for side in ("stdin", "stdout")):
            raise TypeError("stdin and stdout must be texts")
        (row["stdin"] + row["stdout"]).encode()  # UnicodeEncodeError is a ValueError
        return StdioTest(row["stdin"], row["stdout"])
    if not isinstance(row["function"], str) or not isinstance(row["arguments"], list):
        raise TypeError("a function has a name, and a list of arguments")
    return CallTest(row["function"], row["arguments"], row["returns"])
