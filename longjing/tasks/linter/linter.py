"""The checks that are made of a task, in order.

The policy is optimised against the verifier, so whatever a verifier pays for by mistake is what the policy will learn.
The task works in processes apart (`task_process.py`): what hangs or ends them is found, named, and doesn't end the
linter.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from longjing.problems import NoProblems, Problem, Split, Task
from longjing.tasks.linter import verdict_checks
from longjing.tasks.linter.grader import GaveUp, Grader
from longjing.tasks.linter.problem_checks import check_answers_in_prompts, check_splits
from longjing.tasks.linter.report import Report
from longjing.tasks.linter.reward_hacks import HACKS
from longjing.tasks.linter.reward_probes import RewardProbes
from longjing.tasks.linter.task_process import NoAnswer, OutOfTime, TaskProcess, TaskRaised

SECONDS, TOTAL = 20.0, 1800.0  # that a verdict may take, and all_problems
_SAMPLE_SIZE = 20  # problems that hacks are tried on, and that are drawn again
# Called with the checks done, their number, and what is done.
Progress = Callable[[int, int, str], None]


def check(
    task: Task | Callable[[], Task],
    problems: int = 200,
    seed: int = 0,
    seconds: float = SECONDS,
    total: float = TOTAL,
    on_progress: Progress = lambda *_: None,
) -> Report:
    """Sample up to `problems` problems of each split, and judge right answers, wrong ones and hacks.

    `task` is one, or, better, a function that can be pickled and makes it: it is then made in fresh processes that
    share nothing with this one. A verdict may take `seconds`, everything `total`. Raises UserError if there is no
    training problem, or the task can't be made.
    """
    deadline = time.monotonic() + total
    with (
        TaskProcess(task, seconds, deadline) as process,
        TaskProcess(task, seconds, deadline, another_time=True) as another_time,
    ):
        report = Report("", {})
        done, stage = 0, ""

        def show_progress(judged: int) -> None:
            on_progress(done, len(steps), f"{stage}, {judged:,} completions judged" if judged else stage)

        steps: list[tuple[str, Callable[[], None]]] = [("making the task", lambda: _about(report, process))]
        sampled: dict[str, list[Problem]] = {}
        all_problems: list[Problem] = []
        grader = Grader(process, another_time, report, min(problems, _SAMPLE_SIZE), show_progress)
        for split in get_args(Split):
            sample = partial(_sample, report, process, sampled, split, problems, seed)
            steps.append((f"{split} problems", sample))
        steps += [
            ("splits", lambda: _check_problems(report, sampled, all_problems)),
            ("seed", lambda: _check_seed(report, process, another_time, sampled["train"], seed)),
            ("gold answers", lambda: verdict_checks.check_gold(grader, all_problems)),
            ("wrong answers", lambda: verdict_checks.check_wrong(grader, all_problems)),
            ("one answer for all", lambda: verdict_checks.check_guess(grader, all_problems)),
            *((f"hack: {name}", partial(verdict_checks.check_hack, grader, name, all_problems)) for name in HACKS),
            ("reward", lambda: verdict_checks.check_reward(grader, all_problems)),
            ("pay for length", lambda: RewardProbes(grader, all_problems).check_length()),
            ("pay for words", lambda: RewardProbes(grader, all_problems).check_words()),
            ("pay for wrong answers", lambda: RewardProbes(grader, all_problems).check_wrong_answers()),
            ("answers in Chinese", lambda: RewardProbes(grader, all_problems).check_chinese()),
            ("the same verdict later", lambda: verdict_checks.check_time(grader)),
        ]
        try:
            for done, (stage, step) in enumerate(steps):  # noqa: B007 (`show_progress` reads both)
                show_progress(len(grader.seconds))
                step()
        except (GaveUp, OutOfTime, _NoTrainingProblems) as error:
            left = len(steps) - done - 1
            late = isinstance(error, OutOfTime)
            why = f"after {total:g} s; allow more" if late else "since the task doesn't answer"
            report.add("all checks made", "failed", stage=stage, why=why, left=left, steps=len(steps))
        verdict_checks.check_conduct(grader)
    return report


class _NoTrainingProblems(Exception):
    """Without training problems nothing else can be checked."""


def _about(report: Report, process: TaskProcess) -> None:
    try:
        report.task, report.settings = process.about()
    except (TaskRaised, NoAnswer) as error:
        report.add("the task can be made", "failed", reason=_reason(error))
        raise _NoTrainingProblems from None


def _reason(error: Exception) -> str:
    return f"raised {error}" if isinstance(error, TaskRaised) else str(error)


def _sample(
    report: Report, process: TaskProcess, sampled: dict[str, list[Problem]], split: Any, count: int, seed: int
) -> None:
    problems: list[Problem] = []
    sampled[split] = problems
    try:
        for problem in process.problems(split, seed, count):
            problems.append(problem)
    except NoProblems as error:
        if split == "train":
            raise
        report.add(f"{split} problems", "failed", "no problems", error=error)
    except (TaskRaised, NoAnswer) as error:
        gaps: dict[str, Any] = {"reason": _reason(error), "count": len(problems), "split": split}
        report.add(f"{split} problems", "failed", "problems", **gaps)
    if split == "train" and not problems:
        if not report.findings:
            raise NoProblems(f"task {report.task!r} has no training problems")
        raise _NoTrainingProblems
    report.problems[split] = len(problems)


def _check_problems(report: Report, sampled: dict[str, list[Problem]], all_problems: list[Problem]) -> None:
    all_problems += {problem.id: problem for problems in sampled.values() for problem in problems}.values()
    counts = ", ".join(f"{count} {split}" for split, count in report.problems.items())
    report.add("problems", "ok", counts=counts)
    check_splits(report, sampled)
    check_answers_in_prompts(report, all_problems)


def _check_seed(
    report: Report, process: TaskProcess, another_time: TaskProcess, train: list[Problem], seed: int
) -> None:
    add = partial(report.add, "problems follow from the seed")
    first = train[:_SAMPLE_SIZE]
    try:
        if list(process.problems("train", seed, len(first))) != first:
            add("failed")
        elif list(another_time.problems("train", seed, len(first))) != first:
            add("failed", "problems in another process")
        else:
            add("ok")
    except (TaskRaised, NoAnswer) as error:
        add("failed", "problems the second time", reason=_reason(error))
