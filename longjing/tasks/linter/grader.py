"""Where the linter has completions judged, and what shows of the verifier meanwhile."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, get_args

from longjing.problems import Outcome, Problem, Verdict
from longjing.tasks.linter.report import Report, short
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


class Grader:
    """Has completions judged twice, and keeps what shows of the verifier.

    `another_time`: the same task in a process with another clock. `sample_size`: problems that hacks are tried on.
    `on_judged` is called with how many were judged. The lists of `unsteady`, `broken`, `hung` and `ended` completions
    hold a sentence for each.
    """

    def __init__(
        self,
        process: TaskProcess,
        another_time: TaskProcess,
        report: Report,
        sample_size: int,
        on_judged: Callable[[int], None],
    ) -> None:
        self.process, self.another_time = process, another_time
        self.report, self.sample_size, self._on_judged = report, sample_size, on_judged
        self.show = _FORMS[0]
        self.judged: list[Judged] = []
        self.seconds: list[float] = []
        self.unjudged: list[Judged] = []
        self.unsteady: list[str] = []
        self.broken: list[str] = []
        self.hung: list[str] = []
        self.ended: list[str] = []

    def judge(self, problem: Problem, text: str, truncated: bool = False) -> Verdict | None:
        """The verdict; None if there is none, since the task raised an error, took too long or ended its process.

        Raises GaveUp once it has done so too often.
        """
        self._on_judged(len(self.seconds))
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
        """From now on give answers in the form in which the task takes most of its own."""

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

    def expect_wrong(self, name: str, texts: Sequence[tuple[Problem, str]], otherwise: str) -> None:
        """Report whether all of these completions are wrong."""
        correct = self.correct_ones(texts)
        if not correct:
            self.report.add(name, "ok", f"none of {len(texts)} is judged correct")
            return
        problem, text = correct[0]
        self.report.add(
            name, "failed",
            f"{len(correct)} of {len(texts)} are judged correct, for one {short(text)} to {short(problem.prompt)}, "
            f"whose answer is {short(problem.answer)}; {otherwise}",
        )  # fmt: skip
