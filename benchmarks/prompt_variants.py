"""The same problems in other words: what models solve as a task words it, as people type it, and in a conversation.

    python benchmarks/prompt_variants.py --models r1 --out benchmarks/results/prompt_variants.json

Test problems of difficulty 2, the same for every model and condition; differences are paired by problem. Typed prompts
are those of `longjing.toys.paraphrase`, which fine-tuning reads of training problems.
"""

from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from random import Random

import numpy as np
import torch
from common import measure_machine, report
from model_answers import ask, engine_of, figures, parser, user

from longjing import tasks
from longjing.evaluation.bootstrap import paired_difference
from longjing.evaluation.pass_at_k import pass_at_1
from longjing.generation.native import Engine
from longjing.problems import Problem, Task
from longjing.toys import EVERYDAY
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.paraphrase import informal

CONDITIONS = ("as worded", "as typed", "in the third turn")


def messages(condition: str, problem: Problem, others: Iterator[Problem]) -> list[dict[str, str]]:
    """How a problem is asked; `others`: what a conversation was about before."""
    if condition == "as typed":
        return [user(informal(problem.prompt, Random(problem.id), problem))]
    earlier = islice(others, 2) if condition == "in the third turn" else ()
    history = [
        message
        for one in earlier
        for message in (
            user(one.prompt),
            {"role": "assistant", "content": answer_sentence(one, one.answer, Random(one.id))},
        )
    ]
    return [*history, user(problem.prompt)]


def scores(engine: Engine, task: Task, condition: str, options: Namespace) -> np.ndarray:
    """1 for each sample that is right, else 0, `[problems, samples]`."""
    problems = list(islice(task.problems("test", 0), options.problems))
    subjects = [tasks.get(name, difficulty=2).problems("train", 1) for name in EVERYDAY if name != task.name]
    others = (next(subjects[turn % len(subjects)]) for turn in range(2 * options.problems))
    chats = [(problem.id, messages(condition, problem, others)) for problem in problems]
    return np.array(
        [
            [float(task.judge(problem, one).outcome == "correct") for one in samples]
            for problem, samples in zip(problems, ask(engine, chats, options), strict=True)
        ]
    )


def main() -> None:
    options = parser(__doc__, problems=100).parse_args()
    torch.set_num_threads(1)
    results = []
    for model in options.models:
        engine = engine_of(model)
        for name in EVERYDAY:
            task = tasks.get(name, difficulty=2)
            by_condition = {condition: scores(engine, task, condition, options) for condition in CONDITIONS}
            worded = by_condition[CONDITIONS[0]].mean(1)
            for condition, values in by_condition.items():
                row = {"model": model, "task": name, "condition": condition, **figures(pass_at_1(values))}
                if condition != CONDITIONS[0]:
                    row["difference"] = figures(paired_difference(worded, values.mean(1)))
                print(row, flush=True)
                results.append(row)
    report("prompt_variants", options, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


if __name__ == "__main__":
    main()
