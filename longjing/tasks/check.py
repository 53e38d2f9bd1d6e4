"""Does a task keep its promises? The logic behind `longjing tasks check NAME`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice, pairwise
from time import perf_counter
from typing import Any, get_args

from longjing.tasks.base import Completion, Problem, Split, Task


@dataclass
class Report:
    """The counts of one check; `failures` holds a line for each broken promise (at most MAX_FAILURES)."""

    task: str
    settings: dict[str, Any]
    problems: dict[str, int] = field(default_factory=dict)  # by split
    solved: int = 0  # the solver's own answer was judged correct
    gold_correct: int = 0
    wrong_found: int = 0  # of another problem's answer
    wrong_tried: int = 0
    empty_found: int = 0
    problems_per_second: float = 0.0  # train
    microseconds_per_verdict: float = 0.0
    slowest_verdict_microseconds: float = 0.0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failed and all(self.problems.values())


MAX_FAILURES = 20


def check(task: Task, problems: int = 200, seed: int = 0) -> Report:
    """Sample up to `problems` problems of each split; solve and judge them all.

    The gold answer and the solver's must be judged correct with full rewards, an empty completion and the
    answer to another problem wrong, and no problem may appear in two splits. Raises UserError where a split
    is empty.
    """
    report = Report(task.name, task.settings)
    sampled: dict[str, list[Problem]] = {}
    for split in get_args(Split):
        start = perf_counter()
        sampled[split] = list(islice(task.problems(split, seed), problems))
        report.problems[split] = len(sampled[split])
        if split == "train":
            report.problems_per_second = len(sampled[split]) / (perf_counter() - start)
    _check_disjoint(report, sampled.values())
    everything = [problem for some in sampled.values() for problem in some]
    spent: list[float] = []

    def judged(what: str, problem: Problem, answer: str | None, right: bool) -> bool:
        completion = _completion(answer)
        start = perf_counter()
        verdict = task.judge(problem, completion)
        spent.append(perf_counter() - start)
        rewards = {"accuracy": float(right), "format": float(answer is not None)}
        kept = verdict.outcome == ("correct" if right else "wrong") and verdict.rewards == rewards
        if not kept:
            _fail(report, f"{what} {answer!r} of {problem.prompt!r} was judged {verdict}")
        return kept

    for problem in everything:
        report.gold_correct += judged("the gold answer", problem, problem.answer, True)
        report.solved += judged("the solver's answer", problem, task.solve(problem), True)
        report.empty_found += judged("the empty answer", problem, None, False)
    for problem, other in pairwise(everything):
        if problem.answer != other.answer and problem.id != other.id:
            report.wrong_tried += 1
            report.wrong_found += judged("another problem's answer", problem, other.answer, False)
    report.microseconds_per_verdict = 1e6 * sum(spent) / max(1, len(spent))
    report.slowest_verdict_microseconds = 1e6 * max(spent, default=0.0)
    return report


def _completion(answer: str | None) -> Completion:
    text = "" if answer is None else f"Some reasoning.\n</think>\n\n\\boxed{{{answer}}}"
    return Completion.parse(text, prefilled=True)


def _check_disjoint(report: Report, splits: Iterable[list[Problem]]) -> None:
    """No problem may be in two splits."""
    home: dict[str, int] = {}
    for number, some in enumerate(splits):
        for problem in some:
            if home.setdefault(problem.id, number) != number:
                _fail(report, f"{problem.prompt!r} is in two splits")


def _fail(report: Report, line: str) -> None:
    report.failed += 1
    if len(report.failures) < MAX_FAILURES:
        report.failures.append(line)
