"""A task of one's own whose answers are programs: they read integers and print one, and are run in the sandbox.

    longjing run r1-zero --set task=examples/code_task.py

Sampled programs never run outside the sandbox, and what a test expects never goes in.
"""

from collections.abc import Iterator
from itertools import cycle
from random import Random
from typing import Any

from longjing.tasks import Completion, Problem, Split, Verdict, split_of
from longjing.verifiers import Rubric

ASKS = {"sum": "the sum of", "len": "how many there are of", "max": "the largest of"}


class Divisible:
    """What of the integers, one a line, that are divisible by some number; the number and the question are drawn."""

    name = "divisible"
    settings: dict[str, Any] = {}

    def __init__(self) -> None:
        # `code` says what is right; the form is worth a little.
        self._rubric = Rubric({"code": {"seconds": 2.0}, "format": 0.1})

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        random = Random(f"{split} {seed}")
        kinds = [(divisor, ask) for divisor in range(2, 100) for ask in ASKS]
        mine = [kind for kind in kinds if split_of(f"{self.name} {kind}") == split]
        random.shuffle(mine)
        for divisor, ask in cycle(mine) if split == "train" else mine:
            prompt = (
                "Write a Python program that reads integers from standard input, one a line, and prints "
                f"{ASKS[ask]} those divisible by {divisor}. There is at least one."
            )
            data = {"tests": _tests(divisor, ask)}
            yield Problem(self.name, f"{divisor} {ask}", prompt, _program(divisor, ask), data, "en")

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        return self._rubric.judge(problem, completion)

    def solve(self, problem: Problem) -> str:
        return problem.answer


def _program(divisor: int, ask: str) -> str:
    return f"import sys\nprint({ask}([n for n in map(int, sys.stdin) if n % {divisor} == 0]))"


def _tests(divisor: int, ask: str) -> list[dict[str, str]]:
    random = Random(f"{divisor} {ask}")
    tests = []
    for many in range(1, 9, 2):
        numbers = [random.randint(-500, 500) for _ in range(60)]
        numbers += [divisor * random.randint(-9, 9) for _ in range(many)]
        random.shuffle(numbers)
        right = {"sum": sum, "len": len, "max": max}[ask]([n for n in numbers if n % divisor == 0])
        tests.append({"stdin": "".join(f"{n}\n" for n in numbers), "stdout": f"{right}\n"})
    return tests
