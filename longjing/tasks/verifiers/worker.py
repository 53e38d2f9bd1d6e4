"""The process behind a `pool.Pool`: a line of JSON in, a line {"answer": ...} or {"error": ...} out.

Run as a program, never imported, with the work, the seconds and the megabytes that it may take. It imports nothing of
the package, so that it starts quickly. An error that isn't foreseen ends it, which tells the one who asked.
"""

import json
import re
import resource
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import Any

# What foreign code may well raise when it meets what a model wrote.
_FORESEEN = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NameError, RuntimeError, SyntaxError,
    TypeError, ValueError,
)  # fmt: skip


def mathematics() -> Callable[..., bool]:
    """[gold, answer, whether an inequality may answer for an interval]: do both say the same, by `math-verify`?"""
    from math_verify import parse, verify

    sympy = import_module("sympy")

    def read(text: str) -> Any:
        # Time is kept by the other side, which can stop what no alarm of this process could.
        return parse(f"\\boxed{{{text}}}", parsing_timeout=None)

    def close(gold: Any, answer: Any) -> bool:
        """Whether two numbers that count as equal are: `verify` rounds to six decimals, so 1/2004! is 1/2006!."""
        if not (isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr)):
            return True
        if gold == answer or gold.free_symbols or answer.free_symbols:
            return True
        one, other = gold.evalf(50), answer.evalf(50)
        if not (one.is_number and other.is_number and one.is_finite and other.is_finite):
            return True
        rounded = gold.has(sympy.Float) or answer.has(sympy.Float)
        return bool(abs(one - other) <= abs(one) * (1e-6 if rounded else 1e-30))

    def equal(gold: str, answer: str, relations: bool) -> bool:
        golds, answers = read(gold), read(answer)
        if not golds:
            raise ValueError(f"the gold answer can't be read: {gold[:100]!r}")
        given = {"timeout_seconds": None, "raise_on_error": True, "allow_set_relation_comp": relations}
        if not verify(golds, answers, **given):
            return False
        percent = "%" in gold + answer  # 50% is 0.5, and it is 50, too
        return percent or not answers or close(golds[0], answers[0])

    return equal


def pattern() -> Callable[..., bool]:
    """[pattern, text, whether case counts]: does all of the text match?"""
    return lambda pattern, text, case: re.fullmatch(pattern, text, 0 if case else re.IGNORECASE) is not None


def main() -> None:
    work, seconds, megabytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    ours = {"mathematics": mathematics, "pattern": pattern}
    judge = (ours.get(work) or run_path(str(Path(__file__).with_name("foreign.py")))[work])()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    if work != "environments":  # which come with caches
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    say, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    print(json.dumps({"answer": "ready"}), file=say, flush=True)
    for line in sys.stdin:
        # Time is kept by the other side; but if that is gone, nobody would stop what has no end.
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used + seconds) + 2, resource.RLIM_INFINITY))
        try:
            reply: dict[str, Any] = {"answer": judge(*json.loads(line))}
        except _FORESEEN as error:
            reply = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(reply), file=say, flush=True)


if __name__ == "__main__":
    main()
