"""What people ask beside the tasks' usual problems: smaller puzzles, longer sums, and what is beyond the model.

    python benchmarks/beside.py --models r1 --out benchmarks/results/beside.json

The puzzles and the sums are test problems, in the task's own words. Questions beyond it are those of
`longjing.learning.corpus.limits`: the wordings were read, the numbers are drawn anew (a few questions with small ones
may have been read as they are). Declined is whatever ends without a boxed answer; ordinary problems shouldn't be.
"""

from argparse import ArgumentParser
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from common import measure_machine, report

import longjing
from longjing import tasks
from longjing.engine import Engine, Request, Sampling
from longjing.engine.random import sample_seed
from longjing.evaluation.statistics import pass_at_1
from longjing.learning.corpus import limits
from longjing.learning.corpus.worked import SUMS
from longjing.tasks import EVERYDAY
from longjing.tasks.answer import boxed
from longjing.tasks.base import Completion, Problem

UNREAD = 10**9  # from here on, seeds that no run draws from
Asked = tuple[str, str, Callable[[Completion], bool]]  # a prompt, its name, what a completion has to be


def declined(completion: Completion) -> bool:
    return completion.closed and bool(completion.answer) and boxed(completion.answer) is None


def kinds(count: int) -> dict[str, list[Asked]]:
    """What is asked of each kind."""
    pairs = tasks.get("countdown", difficulty=1, largest=50, largest_target=300)
    ordinary = [
        problem
        for name in EVERYDAY
        for problem in islice(tasks.get(name, difficulty=2).problems("test", 0), count // 4)
    ]
    beyond = [limits.write(Random(UNREAD + number)).prompt for number in range(count)]

    def judged(task: Any, problem: Problem) -> Asked:
        return problem.prompt, problem.id, lambda said: task.judge(problem, said).outcome == "correct"

    return {
        "countdown with two numbers, solved": [
            judged(pairs, p) for p in islice(pairs.problems("test", 0), count)
        ],
        "sums of three to six terms, solved": [
            judged(SUMS, p) for p in islice(SUMS.problems("test", 0), count)
        ],
        "beyond it, declined": [(prompt, str(place), declined) for place, prompt in enumerate(beyond)],
        "ordinary problems, declined": [(problem.prompt, problem.id, declined) for problem in ordinary],
    }


def main() -> None:
    options = ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="+", default=["r1"])
    options.add_argument("--problems", type=int, default=200)
    options.add_argument("--samples", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    results = []
    for model in given.models:
        network, tokenizer = longjing.load(model)
        engine = Engine(network, tokenizer, max_batch=64)
        for kind, asked in kinds(given.problems).items():
            requests = [
                Request(
                    tokenizer.encode_chat([{"role": "user", "content": prompt}]),
                    Sampling(0.6, max_tokens=512, seed=sample_seed(given.seed, 0, name, number)),
                )
                for prompt, name, _ in asked
                for number in range(given.samples)
            ]
            said = [
                Completion.parse(one.text, truncated=one.finish_reason == "length")
                for one in engine.generate(requests)
            ]
            fits = [float(asked[place // given.samples][2](one)) for place, one in enumerate(said)]
            interval = pass_at_1(np.array(fits).reshape(len(asked), given.samples))
            row = {"model": model, "kind": kind, "problems": len(asked)}
            row |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
            print(row, flush=True)
            results.append(row)
    report("beside", given, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


if __name__ == "__main__":
    main()
