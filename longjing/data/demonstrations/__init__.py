"""Worked solutions that programs write, for the cold start of a model that doesn't think yet.

DeepSeek-R1 starts from thousands of long chains of thought that a stronger model wrote and people put into form (arXiv
2501.12948, section 2.3.1). Here no stronger model is at hand: for some data sets of reasoning-gym a program solves the
problem step by step, and the toys' own corpora do it for theirs. Every solution is right: the task has judged it.
"""

from collections.abc import Callable
from random import Random

from longjing.data.demonstrations import expressions, gsm_symbolic, leg_counting, linear_equations, syllogisms
from longjing.problems import Completion, Problem, Task, boxed
from longjing.problems.language import share
from longjing.tasks.reasoning_gym import GYM_PREFIX
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.toy import TOYS

_WRITERS: dict[str, Callable[[Problem], str | None]] = {
    GYM_PREFIX + "chain_sum": expressions.solution,
    GYM_PREFIX + "basic_arithmetic": expressions.solution,
    GYM_PREFIX + "simple_equations": linear_equations.solution,
    GYM_PREFIX + "leg_counting": leg_counting.solution,
    GYM_PREFIX + "syllogism": syllogisms.solution,
    GYM_PREFIX + "gsm_symbolic": gsm_symbolic.solution,
}
_GUESSES = ("guess", "direct")  # styles of the toys' solutions that show no work
_TRIES = 20  # of a toy's writers, who slip now and then


def demonstrable(name: str) -> bool:
    """Whether there are worked solutions for the task called `name`."""
    return name in _WRITERS or (name in TOYS and TOYS[name].write_solution is not None)


def demonstrable_names() -> list[str]:
    """The tasks that `demonstrable` is true of."""
    return [*_WRITERS, *(name for name in TOYS if demonstrable(name))]


def demonstrate(task: Task, problem: Problem, random: Random) -> Completion | None:
    """A right and readable solution of the problem, the result in a box in a sentence; None if nobody finds one."""
    if write := _WRITERS.get(task.name):
        solutions = [(write(problem), problem.answer)]
    else:
        solutions = _by_toy(task, problem, random)
    for reasoning, result in solutions:
        if reasoning is None or share(reasoning, problem.language) < 1:
            continue
        answer = answer_sentence(problem, result, random)
        completion = Completion(reasoning, answer, closed=True, well_formed=True, truncated=False)
        if task.judge(problem, completion).outcome == "correct":
            return completion
    return None


def _by_toy(task: Task, problem: Problem, random: Random) -> list[tuple[str | None, str]]:
    write = TOYS[task.name].write_solution
    assert write is not None
    documents = (write(problem, random) for _ in range(_TRIES))
    return [(each.reasoning, boxed(each.answer) or "") for each in documents if each.style not in _GUESSES]
