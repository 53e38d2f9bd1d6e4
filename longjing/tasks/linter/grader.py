"""Where the linter has completions judged, and what shows of the verifier meanwhile."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, get_args

from longjing.problems import Outcome, Problem, Verdict
from longjing.tasks.linter.report import Report, Status, short
from longjing.tasks.linter.task_process import NoAnswer, TaskProcess, TaskRaised

_MOST_HUNG, _MOST_ENDED = (6, 20)  # completions that hang the verifier or end its process; then no more are tried
# Completions without an answer, in one check, after which it goes no further: they are much alike.
LEAST_LOST = 2
# How an answer may have to be given; the first one in which the task takes its own answers is used.
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda answer: f"\\boxed{{{answer}}}",
    lambda answer: answer,
    lambda answer: f"```python\n{answer}\n```",
)


class GaveUp(Exception):
    """Too many completions hung the verifier, or ended its process."""


class Judged(NamedTuple):
    """A completion, and its verdict."""

    problem: Problem
    text: str
    truncated: bool
    verdict: Verdict


@dataclass
class Grader:
    """Has completions judged twice, and keeps what shows of the verifier.

    `another_time`: the same task in a process with another clock. `sample_size`: problems that hacks are tried on.
    `on_judged` is called with how many were judged. The lists of `unsteady`, `broken`, `hung` and `ended` completions
    hold a sentence for each.
    """

    process: TaskProcess
    another_time: TaskProcess
    report: Report
    sample_size: int
    on_judged: Callable[[int], None]
    show: Callable[[str], str] = _FORMS[0]
    judged: list[Judged] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    unjudged: list[Judged] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def judge(self, problem: Problem, text: str, truncated: bool = False) -> Verdict | None:
        """The verdict; None if there is none, since the task raised an error, took too long or ended its process.

        Raises GaveUp once it has done so too often.
        """
        self.on_judged(len(self.seconds))
        try:
            (seconds, verdict), (_, again) = self.process.judge(problem, text, truncated, times=2)
            self.seconds.append(seconds)
        except TaskRaised as error:
            self.broken.append(f"{short(text)} raised {error}")
            return None
        except NoAnswer as error:
            lost = self.hung if error.hung else self.ended
            lost.append(f"{short(text)} to {short(problem.prompt)} {error}")
            if len(self.hung) >= _MOST_HUNG or len(self.ended) >= _MOST_ENDED:
                raise GaveUp from None
            return None
        if (again.outcome, again.rewards) != (verdict.outcome, verdict.rewards):
            self.unsteady.append(f"{short(text)} was {verdict.outcome}, then {again.outcome}")
        if verdict.outcome not in get_args(Outcome):
            self.broken.append(f"{short(text)} was judged {verdict.outcome!r}, which is no outcome")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in verdict.rewards.values()):
            self.broken.append(f"{short(text)} was paid {verdict.rewards}, which is no finite number")
            return None
        self.judged.append(Judged(problem, text, truncated, verdict))
        if verdict.outcome == "unjudged":
            self.unjudged.append(self.judged[-1])
        return verdict

    def choose_form(self, problems: Sequence[Problem]) -> None:
        """Give answers from now on in the form in which the task takes most of its own."""

        def taken(form: Callable[[str], str]) -> int:
            self.show = form
            return sum(self.is_correct(problem, self.completion(problem.answer)) for problem in problems)

        self.show = max(_FORMS, key=taken)

    def judge_solution(self, problem: Problem) -> Verdict | None:
        """The verdict on the task's own solution; None as of `judge`."""
        try:
            return self.judge(problem, self.completion(self.process.solve(problem)))
        except (TaskRaised, NoAnswer) as error:
            hung = isinstance(error, NoAnswer) and error.hung
            kept = self.hung if hung else self.broken
            kept.append(f"`solve` of {short(problem.prompt)} {'' if hung else 'raised '}{error}")
            if len(self.hung) >= _MOST_HUNG:
                raise GaveUp from None
            return None

    def completion(self, answer: str, thought: str = "Some words of thought.") -> str:
        """What follows the opened `<think>`: a thought, and the answer in the form that the task takes."""
        return f"{thought}\n</think>\n\n{self.show(answer)}"

    def is_correct(self, problem: Problem, text: str) -> bool:
        """Whether a completion is judged correct."""
        verdict = self.judge(problem, text)
        return verdict is not None and verdict.outcome == "correct"

    def correct_ones(self, texts: Iterable[tuple[Problem, str]]) -> list[tuple[Problem, str]]:
        """Those that are judged correct."""
        lost_before, correct = len(self.hung) + len(self.ended), []
        for problem, text in texts:
            if self.is_correct(problem, text):
                correct.append((problem, text))
            if len(self.hung) + len(self.ended) >= lost_before + LEAST_LOST:
                break
        return correct

    def expect_wrong(self, name: str, texts: Sequence[tuple[Problem, str]], says: str = "") -> None:
        """Report whether all of these completions are wrong."""
        correct = self.correct_ones(texts)
        problem, text = correct[0] if correct else (None, "")
        status: Status = "failed" if correct else "ok"
        self.report.add(name, status, says, problem, text, correct=len(correct), count=len(texts))
