"""What people ask beside the tasks' usual problems: smaller puzzles, longer sums, and what is beyond the model.

    python benchmarks/out_of_distribution.py --models r1 --out benchmarks/results/out_of_distribution.json

The puzzles and the sums are test problems, in the task's own words. Questions beyond it are those of
`longjing.toys.declined_questions`: the wordings were read, the numbers are drawn anew (a few questions with small ones
may have been read as they are). Declined is whatever ends without a boxed answer; ordinary problems shouldn't be.
"""

from collections.abc import Callable
from itertools import islice
from random import Random

import numpy as np
import torch
from common import measure_machine, report
from model_answers import ask, engine_of, figures, parser, user

from longjing import tasks
from longjing.evaluation.pass_at_k import pass_at_1
from longjing.problems import Completion, Problem, Task, boxed
from longjing.toys import EVERYDAY
from longjing.toys.declined_questions import write_declined
from longjing.toys.worked_examples import SUMS

UNREAD = 10**9  # from here on, seeds that no run draws from
Question = tuple[str, str, Callable[[Completion], bool]]  # a prompt, its name, what a completion has to be


def declined(completion: Completion) -> bool:
    return completion.closed and bool(completion.answer) and boxed(completion.answer) is None


def questions_by_kind(count: int) -> dict[str, list[Question]]:
    """What is asked of each kind."""
    pairs = tasks.get("countdown", difficulty=1, largest=50, largest_target=300)
    ordinary = [
        problem
        for name in EVERYDAY
        for problem in islice(tasks.get(name, difficulty=2).problems("test", 0), count // 4)
    ]
    beyond = [write_declined(Random(UNREAD + number)).prompt for number in range(count)]

    def judged(task: Task, problem: Problem) -> Question:
        return problem.prompt, problem.id, lambda answer: task.judge(problem, answer).outcome == "correct"

    return {
        "countdown with two numbers, solved": [judged(pairs, p) for p in islice(pairs.problems("test", 0), count)],
        "sums of three to six terms, solved": [judged(SUMS, p) for p in islice(SUMS.problems("test", 0), count)],
        "beyond it, declined": [(prompt, str(index), declined) for index, prompt in enumerate(beyond)],
        "ordinary problems, declined": [(problem.prompt, problem.id, declined) for problem in ordinary],
    }


def main() -> None:
    options = parser(__doc__, problems=200).parse_args()
    torch.set_num_threads(1)
    results = []
    for model in options.models:
        engine = engine_of(model)
        for kind, questions in questions_by_kind(options.problems).items():
            answers = ask(engine, [(name, [user(prompt)]) for prompt, name, _ in questions], options)
            fits = [
                [float(fitting(one)) for one in samples]
                for (_, _, fitting), samples in zip(questions, answers, strict=True)
            ]
            row = {"model": model, "kind": kind, "problems": len(questions), **figures(pass_at_1(np.array(fits)))}
            print(row, flush=True)
            results.append(row)
    report("out_of_distribution", options, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


if __name__ == "__main__":
    main()
