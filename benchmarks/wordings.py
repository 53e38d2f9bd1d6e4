"""The same problems in other words: what models solve as a task words it, as people type it, and in a conversation.

    python benchmarks/wordings.py --models r1 --out benchmarks/results/wordings.json

Test problems of difficulty 2, the same for every model and condition; differences are paired by problem. Typed prompts
are those of `longjing.learning.wordings`, which fine-tuning reads of training problems.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
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
from longjing.evaluation.statistics import Interval, paired_difference, pass_at_1
from longjing.learning.readable import written_answer
from longjing.learning.wordings import as_typed
from longjing.tasks import EVERYDAY
from longjing.tasks.base import Completion, Problem, Task
from longjing.text.tokenizer import Tokenizer

CONDITIONS = ("as worded", "as typed", "in the third turn")


def messages(condition: str, problem: Problem, others: Iterator[Problem]) -> list[dict[str, str]]:
    """How a problem is asked; `others`: what a conversation was about before."""
    if condition == "as typed":
        return [_asked(as_typed(problem.prompt, Random(problem.id), problem))]
    earlier = islice(others, 2) if condition == "in the third turn" else ()
    history = [
        message
        for one in earlier
        for message in (
            _asked(one.prompt),
            {"role": "assistant", "content": written_answer(one, one.answer, Random(one.id))},
        )
    ]
    return [*history, _asked(problem.prompt)]


def _asked(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def scores(engine: Engine, tokenizer: Tokenizer, task: Task, condition: str, given: Any) -> np.ndarray:
    """1 for each sample that is right, else 0, `[problems, samples]`."""
    problems = list(islice(task.problems("test", 0), given.problems))
    subjects = [tasks.get(name, difficulty=2).problems("train", 1) for name in EVERYDAY if name != task.name]
    others = (next(subjects[turn % len(subjects)]) for turn in range(2 * given.problems))
    requests = []
    for problem in problems:
        prompt = tokenizer.encode_chat(messages(condition, problem, others))
        for number in range(given.samples):
            seed = sample_seed(given.seed, 0, problem.id, number)
            requests.append(Request(prompt, Sampling(0.6, max_tokens=512, seed=seed)))
    verdicts = [
        task.judge(
            problems[place // given.samples],
            Completion.parse(one.text, truncated=one.finish_reason == "length"),
        )
        for place, one in enumerate(engine.generate(requests))
    ]
    right = [float(verdict.outcome == "correct") for verdict in verdicts]
    return np.array(right).reshape(len(problems), given.samples)


def _figures(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def main() -> None:
    options = ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="+", default=["r1"])
    options.add_argument("--problems", type=int, default=100)
    options.add_argument("--samples", type=int, default=2)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path)
    given = options.parse_args()
    torch.set_num_threads(1)
    results = []
    for model in given.models:
        network, tokenizer = longjing.load(model)
        engine = Engine(network, tokenizer, max_batch=64)
        for name in EVERYDAY:
            task = tasks.get(name, difficulty=2)
            found = {condition: scores(engine, tokenizer, task, condition, given) for condition in CONDITIONS}
            worded = found[CONDITIONS[0]].mean(1)
            for condition, values in found.items():
                row = {"model": model, "task": name, "condition": condition, **_figures(pass_at_1(values))}
                if condition != CONDITIONS[0]:
                    row["difference"] = _figures(paired_difference(worded, values.mean(1)))
                print(row, flush=True)
                results.append(row)
    report("wordings", given, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


if __name__ == "__main__":
    main()
