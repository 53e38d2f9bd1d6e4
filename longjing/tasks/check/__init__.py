"""Is a task fit to learn from? The linter behind `longjing tasks check`, to be run before money is spent.

The policy is optimised against the verifier, so whatever a verifier pays for by mistake is what the policy will learn.
The task works in processes apart (`process.py`): what hangs or ends them is found, named, and doesn't end the linter.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

from longjing.problems import NoProblems, Problem, Split, Task
from longjing.tasks.check.bench import Bench, GaveUp
from longjing.tasks.check.findings import Finding, Report, Status
from longjing.tasks.check.hacks import HACKS
from longjing.tasks.check.pay import Pay
from longjing.tasks.check.problem_checks import check_answers_in_prompts, check_splits
from longjing.tasks.check.process import Lost, OutOfTime, Raised, TaskProcess

__all__ = ["Finding", "Report", "Status", "check"]

SECONDS, TOTAL = 20.0, 1800.0  # that a verdict may take, and everything
_FEW = 20  # problems that hacks are tried on, and that are drawn again
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
        TaskProcess(task, seconds, deadline, elsewhen=True) as elsewhen,
    ):
        report = Report("", {})
        done, stage = 0, ""

        def say(judged: int) -> None:
            on_progress(done, len(steps), f"{stage}, {judged:,} completions judged" if judged else stage)

        steps: list[tuple[str, Callable[[], None]]] = [("making the task", lambda: _about(report, process))]
        sampled: dict[str, list[Problem]] = {}
        everything: list[Problem] = []
        bench = Bench(process, elsewhen, report, min(problems, _FEW), say)
        for split in get_args(Split):
            steps.append(
                (f"{split} problems", partial(_sample, report, process, sampled, split, problems, seed))
            )
        steps += [
            ("splits", lambda: _check_problems(report, sampled, everything)),
            ("seed", lambda: _check_seed(report, process, elsewhen, sampled["train"], seed)),
            ("gold answers", lambda: bench.check_gold(everything)),
            ("wrong answers", lambda: bench.check_wrong(everything)),
            ("one answer for all", lambda: bench.check_guess(everything)),
            *((f"hack: {name}", partial(bench.check_hack, name, everything)) for name in HACKS),
            ("reward", lambda: check_reward(bench, everything)),
            ("pay for length", lambda: Pay(bench, everything).check_length()),
            ("pay for words", lambda: Pay(bench, everything).check_words()),
            ("pay for wrong answers", lambda: Pay(bench, everything).check_wrong_answers()),
            ("answers in Chinese", lambda: Pay(bench, everything).check_chinese()),
            ("the same verdict later", bench.check_time),
        ]
        try:
            for done, (stage, step) in enumerate(steps):  # noqa: B007 (`say` reads both)
                say(len(bench.seconds))
                step()
        except (GaveUp, OutOfTime, _Nothing) as error:
            left = len(steps) - done - 1
            why = (
                f"after {total:g} s; allow more"
                if isinstance(error, OutOfTime)
                else "since the task doesn't answer"
            )
            report.add(
                "all checks made",
                "failed",
                f"ended in {stage!r} {why}; {left} checks of {len(steps)} were left out",
            )
        bench.check_conduct()
    return report


class _Nothing(Exception):
    """Without training problems nothing else can be checked."""


def _about(report: Report, process: TaskProcess) -> None:
    try:
        report.task, report.settings = process.about()
    except (Raised, Lost) as error:
        report.add("the task can be made", "failed", f"making it {_said(error)}")
        raise _Nothing from None


def _said(error: Exception) -> str:
    return f"raised {error}" if isinstance(error, Raised) else str(error)


def _sample(
    report: Report, process: TaskProcess, sampled: dict[str, list[Problem]], split: Any, count: int, seed: int
) -> None:
    found: list[Problem] = []
    sampled[split] = found
    try:
        for problem in process.problems(split, seed, count):
            found.append(problem)
    except NoProblems as error:
        if split == "train":
            raise
        report.add(f"{split} problems", "failed", f"{error}; without them nobody can say what was learned")
    except (Raised, Lost) as error:
        report.add(
            f"{split} problems", "failed",
            f"`problems` {_said(error)} after {len(found)} {split} problems: it must go on or end",
        )  # fmt: skip
    if split == "train" and not found:
        if not report.findings:
            raise NoProblems(f"task {report.task!r} has no training problems")
        raise _Nothing
    report.problems[split] = len(found)


def _check_problems(report: Report, sampled: dict[str, list[Problem]], everything: list[Problem]) -> None:
    everything += {problem.id: problem for found in sampled.values() for problem in found}.values()
    counts = ", ".join(f"{count} {split}" for split, count in report.problems.items())
    report.add("problems", "ok", f"{counts} sampled")
    check_splits(report, sampled)
    check_answers_in_prompts(report, everything)


def _check_seed(
    report: Report, process: TaskProcess, elsewhen: TaskProcess, train: list[Problem], seed: int
) -> None:
    few = min(len(train), _FEW)
    status: Status = "failed"
    says = (
        "the same seed gives other problems: a run could not be resumed; draw from `random.Random(seed)` only"
    )
    try:
        if list(process.problems("train", seed, few)) == train[:few]:
            if list(elsewhen.problems("train", seed, few)) == train[:few]:
                status, says = "ok", "the same seed gives the same problems"
            else:
                says = (
                    "the same seed gives other problems in another process, in which the clock and the order of sets "
                    "are others: a run could not be resumed; sort what comes from sets, and leave the time out"
                )
    except (Raised, Lost) as error:
        says = f"the same seed doesn't give the same problems: the second time `problems` {_said(error)}"
    report.add("problems follow from the seed", status, says)


def check_reward(bench: Bench, problems: list[Problem]) -> None:
    """A wrong answer in good form must not be paid as much as a right one."""
    known = next((problem for problem in problems if problem.answer), None)
    if known is None:
        return
    right, wrong = bench.judge(known, bench.said(known.answer)), bench.judge(known, bench.said("qwzvjk"))
    if right is None or wrong is None or "accuracy" not in right.rewards:
        bench.report.add(
            "reward", "failed", "a verdict has no reward part `accuracy`, which training asks for"
        )
        return
    gap = right.rewards["accuracy"] - wrong.rewards.get("accuracy", 0.0)
    says = f"a right answer earns {right.rewards['accuracy']:g}, a wrong one in good form {gap:g} less"
    if gap <= 0:
        says += ": nothing would be learned; give the verifier that decides more weight"
    bench.report.add("reward", "ok" if gap > 0 else "failed", says)
