"""Verdicts: how many of the corpus are right, and how many a second, beside plain `math-verify`.

    python benchmarks/verifiers.py --out benchmarks/results/verifiers.json

Accuracy is over `tests/verdicts/verdicts.jsonl`, whose cases were collected because verifiers err on them; a verdict
that isn't given counts as none, neither right nor false. Speed is over generated answers, all different so that
nothing is remembered, on one process each: numbers, which rules decide, and surds, which only algebra can compare.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import device_and_dtype, measure_machine, parser, report

from longjing import verifiers
from longjing.tasks import Completion, Problem
from longjing.verifiers.pool import Pool

CORPUS = Path(__file__).parents[1] / "tests" / "verdicts" / "verdicts.jsonl"
Compare = Callable[[str, str], bool | None]


def ours() -> Compare:
    """The verifier `math`: None is no verdict."""
    verifier: Any = verifiers.get("math")
    verifier._algebra.pool = Pool("mathematics", 1, 5.0, 1024)

    def compare(gold: str, answer: str) -> bool | None:
        completion = Completion.parse(f"so\n</think>\n\n\\boxed{{{answer}}}")
        outcome = verifier.judge(Problem("", "", "", gold, {}, "en"), completion).outcome
        return None if outcome == "unjudged" else outcome == "correct"

    return compare


def plain() -> Compare:
    """`math-verify` as its documentation shows it, with its own time limits."""
    from math_verify import parse, verify

    return lambda gold, answer: bool(verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}")))


def accuracy(compare: Compare, cases: list[dict[str, Any]]) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    for case in cases:
        verdict = compare(case["gold"], case["answer"])
        error = "false_positive" if verdict else "false_negative"
        kind = "none" if verdict is None else "right" if verdict == case["right"] else error
        outcomes[kind] += 1
    return {"cases": len(cases), **outcomes, "share_right": outcomes["right"] / len(cases)}


def speed(compare: Compare, pairs: list[tuple[str, str]]) -> float:
    """Verdicts a second, after one to warm up."""
    compare("\\sqrt{3}", "\\sqrt{2}+0")
    began = time.perf_counter()
    for gold, answer in pairs:
        compare(gold, answer)
    return len(pairs) / (time.perf_counter() - began)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--verdicts", type=int, default=400, help="of each kind that is timed")
    chosen = options.parse_args()
    machine = measure_machine(*device_and_dtype(chosen), working_set=0)
    cases = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]
    count = chosen.verdicts
    numbers = [(str(n), f"{n + n % 2}.0") for n in range(1000, 1000 + count)]
    surds = [(f"\\sqrt{{{n}}}", f"\\frac{{{n + n % 2}}}{{\\sqrt{{{n + n % 2}}}}}") for n in range(1001, 1001 + count)]
    result: dict[str, Any] = {}
    for name, compare in (("longjing", ours()), ("math-verify", plain())):
        result[name] = {
            "corpus": accuracy(compare, cases),
            "numbers_per_second": speed(compare, numbers),
            "surds_per_second": speed(compare, surds),
        }
    for kind in ("number", "exact", "json"):
        verifier = verifiers.get(kind)
        wrapped = "{}" if kind == "json" else "\\boxed{{{}}}"
        written = [(gold, f"so\n</think>\n\n{wrapped.format(answer)}") for gold, answer in numbers]
        began = time.perf_counter()
        for gold, text in written:
            verifier.judge(Problem("", "", "", gold, {}, "en"), Completion.parse(text))
        result[kind] = {"numbers_per_second": count / (time.perf_counter() - began)}
    report("verifiers", chosen, machine, result)


if __name__ == "__main__":
    main()
