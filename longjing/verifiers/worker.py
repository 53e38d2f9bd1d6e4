"""The process behind a `pool.Pool`: a line of JSON in, a line {"answer": ...} or {"error": ...} out.

Run as a program, never imported, with the work, the seconds and the megabytes that it may take. It imports nothing of
the package, so that it starts quickly. What is ours runs in a child of the process, which the kernel kills when its
time is up: the next child has its libraries from the start, so that a killed one costs milliseconds, not seconds. An
error that isn't foreseen ends the process, which tells the one who asked.
"""

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

# What foreign code may well raise when it meets what a model wrote.
_EXPECTED_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, RuntimeError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip


def _load(package: str, module: str) -> ModuleType:
    """A module of a package beside this file, which is loaded by its place and not as a part of ours."""
    folder = Path(__file__).with_name(package)
    spec = spec_from_file_location(package, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    sys.modules[package] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])
    return import_module(f"{package}.{module}")


def mathematics() -> Callable[..., bool]:
    """[gold, answer]: do both say the same? [gold]: true, after what the gold costs alone."""
    comparison = _load("equality", "comparison")
    # Or the first questions would pay for the tables of parser and solvers.
    for gold, answer in (("\\sqrt{3}", "\\frac{3}{\\sqrt{3}}"), ("x^2+1", "1+x^2"), ("2x+y=1", "y=1-2x")):
        comparison.sound(gold)
        comparison.same(gold, answer)
    return lambda gold, answer=None: comparison.sound(gold) if answer is None else comparison.same(gold, answer)


def regex() -> Callable[..., bool]:
    """[pattern, text, whether case counts]: does all of the text match?"""

    def matches(pattern: str, text: str, case: bool) -> bool:
        try:
            return re.fullmatch(pattern, text, 0 if case else re.IGNORECASE) is not None
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None

    return matches


def _answer_questions(judge: Callable[..., Any], replies: Any, seconds: float, killed_in_time: bool) -> None:
    """Answer each line. `killed_in_time`: by the kernel at a question's time, which no text can outlast."""
    for line in sys.stdin:
        limit, *question = json.loads(line)
        # Time is kept by the other side, too; but if that is gone, nobody would stop what has no end.
        cpu_seconds = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds + seconds) + 2, resource.RLIM_INFINITY))
        if killed_in_time:
            # With no handler, so that the kernel ends the process: Python code would wait for the C code that hangs.
            signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            reply: dict[str, Any] = {"answer": judge(*question)}
        except _EXPECTED_ERRORS as error:
            reply = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        if killed_in_time:
            signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(reply), file=replies, flush=True)


def main() -> None:
    work, seconds, megabytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    ours = {"mathematics": mathematics, "regex": regex}
    judge = ours[work]() if work in ours else _load("scorers", work).scorer()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    if work != "environment_rewards":  # which come with caches
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    replies, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    print(json.dumps({"answer": "ready"}), file=replies, flush=True)
    while work in ours and (child := os.fork()):
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        # Who asked is told by the parent, which has read nothing of the question; then it forks the next child.
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        print(json.dumps({"died": "late" if late else "failed"}), file=replies, flush=True)
    _answer_questions(judge, replies, seconds, work in ours)


if __name__ == "__main__":
    main()
