"""How many programs a minute the sandbox runs, warm and cold, beside a plain subprocess that isolates nothing.

    python benchmarks/sandbox.py --out benchmarks/results/sandbox.json

Warm: a child of the process that stays, as tasks use it. Cold: that process is started for each program. The ways take
turns, some programs each, and the medians count. `verdicts`: one-line programs of the task `code`, each with its tests,
all different, so that nothing is remembered; in one process each, and with a process for each test. `wasm`: the slow
fallback, where its packages are.
"""

import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from common import measure_machine, report

from longjing import tasks
from longjing.sandbox import CallTest, Sandbox, WasmSandbox, judge_program, run_tests
from longjing.sandbox.wasm import missing_packages
from longjing.toys.code.task import CodeData, hidden_tests

PROGRAM = "import json\nprint(json.dumps(sum(n * n for n in range(1000))))"
PRINTS = b"332833500\n"


def main() -> None:
    options = ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=7, help="turns of each way, after one to warm up")
    options.add_argument(
        "--programs", type=int, default=40, help="of a warm turn; a cold, plain or wasm one has an eighth"
    )
    options.add_argument("--workers", type=int, default=2, help="threads that ask at once")
    options.add_argument("--out", type=Path)
    arguments = options.parse_args()
    with Sandbox() as sandbox:
        judged = _judged(arguments.programs)
        few = max(2, arguments.programs // 8)
        ways: dict[str, tuple[int, Callable[[int], None]]] = {
            "warm": (arguments.programs, lambda _: _right(sandbox.run(PROGRAM).stdout)),
            f"warm, {arguments.workers} at once": (arguments.programs, lambda _: _right(sandbox.run(PROGRAM).stdout)),
            "cold": (few, lambda _: _cold()),
            "plain subprocess": (few, lambda _: _plain()),
            "verdicts": (arguments.programs, lambda n: _passes(judge_program(sandbox, *judged[n]))),
            "verdicts, a process for each test": (few, lambda n: _passes(run_tests(sandbox, *judged[n]))),
        }
        if not missing_packages():
            wasm = WasmSandbox()
            ways["wasm"] = few, lambda _: _right(wasm.run(PROGRAM).stdout)
            ways["wasm, verdicts"] = few, lambda n: _passes(judge_program(wasm, *judged[n]))
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(arguments.rounds + 1):
            for name, (programs, run) in ways.items():
                with ThreadPoolExecutor(arguments.workers if "at once" in name else 1) as pool:
                    began = perf_counter()
                    list(pool.map(run, range(programs)))
                    if turn:
                        seconds[name].append((perf_counter() - began) / programs)
    results = {
        name: {"per_minute": 60 / median(each), "milliseconds": [1000 * second for second in each]}
        for name, each in seconds.items()
    }
    report("sandbox", arguments, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


def _judged(count: int) -> list[tuple[str, tuple[CallTest, ...]]]:
    """Programs that are right, with their tests."""
    problems = islice(tasks.get("code", difficulty=3).problems("train", 0), count)
    return [
        (f"f = {problem.answer}", hidden_tests(problem.answer, CodeData.model_validate(problem.data)))
        for problem in problems
    ]


def _cold() -> None:
    with Sandbox() as sandbox:
        _right(sandbox.run(PROGRAM).stdout)


def _plain() -> None:
    _right(subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True).stdout)


def _right(stdout: bytes) -> None:
    assert stdout == PRINTS, stdout


def _passes(results: list) -> None:
    assert all(result.verdict == "correct" for result in results), results


if __name__ == "__main__":
    main()
