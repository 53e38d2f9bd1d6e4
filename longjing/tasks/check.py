"""Is a task fit to learn from? The linter behind `longjing tasks check`, to be run before money is spent.

The policy is optimised against the verifier, so whatever a verifier pays for by mistake is what the policy will learn.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from time import perf_counter
from typing import Any, Literal, get_args

from longjing.tasks.base import Completion, NoProblems, Problem, Split, Task, Verdict
from longjing.tasks.hacks import COSTLY, HACKS, Case

Status = Literal["ok", "warning", "failed"]
_FEW = 20  # problems that hacks are tried on
_SLOW, _SLOWEST = 0.05, 1.0  # seconds of a verdict, in the mean and of the slowest
# How an answer may have to be given; the first one in which the task takes its own answers is used.
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda answer: f"\\boxed{{{answer}}}",
    lambda answer: answer,
    lambda answer: f"```python\n{answer}\n```",
)


@dataclass(frozen=True)
class Finding:
    """What one check found; where it isn't ok, what is wrong and what to do."""

    check: str
    status: Status
    says: str


@dataclass
class Report:
    """All findings on a task. Times are in seconds; `problems` by split."""

    task: str
    settings: dict[str, Any]
    problems: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(finding.status != "failed" for finding in self.findings)

    def add(self, check: str, status: Status, says: str) -> None:
        self.findings.append(Finding(check, status, says))

    def status(self, check: str) -> Status:
        """Of the check of that name. Raises KeyError if it wasn't made."""
        return {finding.check: finding.status for finding in self.findings}[check]


def check(task: Task, problems: int = 200, seed: int = 0) -> Report:
    """Sample up to `problems` problems of each split, and judge right answers, wrong ones and hacks.

    Raises UserError if there is no training problem.
    """
    report = Report(task.name, task.settings)
    began = perf_counter()
    train = list(islice(task.problems("train", seed), problems))
    rate = len(train) / max(1e-9, perf_counter() - began)
    sampled = {"train": train} | {
        split: _held_out(report, task, split, problems, seed) for split in get_args(Split) if split != "train"
    }
    report.problems = {split: len(found) for split, found in sampled.items()}
    counts = ", ".join(f"{count} {split}" for split, count in report.problems.items())
    report.add("problems", "ok", f"{counts} sampled; {rate:,.0f} a second")
    _check_splits(report, sampled)
    _check_seed(report, task, train, seed)
    bench = _Bench(task, report)
    everything = list({problem.id: problem for found in sampled.values() for problem in found}.values())
    bench.check_gold(everything)
    bench.check_wrong(everything)
    bench.check_guess(everything)
    for name in HACKS:
        bench.check_hack(name, everything)
    bench.check_format(everything)
    bench.check_conduct()
    return report


def _held_out(report: Report, task: Task, split: Any, problems: int, seed: int) -> list[Problem]:
    try:
        return list(islice(task.problems(split, seed), problems))
    except NoProblems as error:
        report.add(f"{split} problems", "failed", f"{error}; without them nobody can say what was learned")
        return []


def _check_splits(report: Report, sampled: dict[str, list[Problem]]) -> None:
    """No problem, and no prompt with its answer, may be in two splits. (A task that replies may ask all the same.)"""
    home: dict[str, str] = {}
    for split, found in sampled.items():
        for problem in found:
            for key in (problem.id, " ".join([*problem.prompt.split(), problem.answer])):
                if home.setdefault(key, split) != split:
                    report.add(
                        "splits are disjoint", "failed",
                        f"{_short(problem.prompt)} is in {home[key]} and in {split}: what is measured would have been "
                        "learned by heart; let the hash of the problem decide about its split (`split_of`)",
                    )  # fmt: skip
                    return
    report.add("splits are disjoint", "ok", "no problem is in two splits")


def _check_seed(report: Report, task: Task, train: list[Problem], seed: int) -> None:
    few = min(len(train), _FEW)
    same = list(islice(task.problems("train", seed), few)) == train[:few]
    says = (
        "the same seed gives the same problems" if same else
        "the same seed gives other problems: a run could not be resumed; draw from `random.Random(seed)` only"
    )  # fmt: skip
    report.add("problems follow from the seed", "ok" if same else "failed", says)


class _Bench:
    """Judges completions twice, and keeps what shows of the verifier meanwhile."""

    def __init__(self, task: Task, report: Report) -> None:
        self.task, self.report = task, report
        self.show = _FORMS[0]
        self.seconds: list[float] = []
        self.unjudged: list[tuple[str, Verdict]] = []
        self.unsteady: list[str] = []
        self.broken: list[str] = []

    def judge(self, problem: Problem, text: str, truncated: bool = False) -> Verdict | None:
        """The verdict; None if the task raised an error."""
        completion = Completion.parse(text, prefilled=True, truncated=truncated)
        began = perf_counter()
        try:
            verdict = self.task.judge(problem, completion)
            self.seconds.append(perf_counter() - began)
            again = self.task.judge(problem, completion)
        except Exception as error:  # what a task must never do is what is looked for here
            self.broken.append(f"{_short(text)} raised {type(error).__name__}: {error}")
            return None
        if (again.outcome, again.rewards) != (verdict.outcome, verdict.rewards):
            self.unsteady.append(f"{_short(text)} was {verdict.outcome}, then {again.outcome}")
        if not all(
            isinstance(value, int | float) and math.isfinite(value) for value in verdict.rewards.values()
        ):
            self.broken.append(f"{_short(text)} was paid {verdict.rewards}, which is no finite number")
        if verdict.outcome == "unjudged":
            self.unjudged.append((text, verdict))
        return verdict

    def check_gold(self, problems: Sequence[Problem]) -> None:
        """The task's own answers must be right."""
        known = [problem for problem in problems if problem.answer]
        if not known:
            self.report.add("gold answers", "warning", "the problems have no answers, so none was tried")
            return
        self.show = max(_FORMS, key=lambda form: sum(self._right(problem, form) for problem in known[:5]))
        judged = [(problem, self.judge(problem, self._said(self.task.solve(problem)))) for problem in known]
        judged += [(problem, self.judge(problem, self._said(problem.answer))) for problem in known]
        wrong = [
            (problem, verdict)
            for problem, verdict in judged
            if verdict is None or verdict.outcome != "correct"
        ]
        if not wrong:
            self.report.add("gold answers", "ok", f"all {len(known)} are judged correct")
            return
        problem, verdict = wrong[0]
        said = "an error" if verdict is None else f"{verdict.outcome}: {verdict.reason}"
        self.report.add(
            "gold answers", "failed",
            f"{len({problem.id for problem, _ in wrong})} of {len(known)} are not judged correct, for one "
            f"{_short(problem.answer)} to {_short(problem.prompt)} ({said}); nobody could ever solve these: mend the "
            "answer or choose another verifier",
        )  # fmt: skip

    def check_wrong(self, problems: Sequence[Problem]) -> None:
        """Nothing, noise, and the answers to other problems must be wrong."""
        random = Random(0)
        empty = ("", "</think>", "\n</think>\n\n \n", "Some words.\n</think>")
        self._all_wrong(
            "empty completions", [(problem, text) for problem in problems[:_FEW] for text in empty],
            "an empty completion is paid; a policy would learn to say nothing: refuse answers that are empty",
        )  # fmt: skip
        noise = [
            (problem, self._said("".join(random.choices("qwzvjk", k=random.randint(4, 12)))))
            for problem in problems for _ in range(2)
        ]  # fmt: skip
        self._all_wrong("random completions", noise, "noise is paid: the verifier takes too much for right")
        cut = [problem for problem in problems[:_FEW] if problem.answer]
        verdicts = [self.judge(problem, self._said(problem.answer), truncated=True) for problem in cut]
        paid = sum(verdict is not None and verdict.outcome == "correct" for verdict in verdicts)
        self.report.add(
            "completions that were cut off", "failed" if paid else "ok",
            f"{paid} of {len(cut)} are judged correct, and nobody knows how they would have gone on: judge "
            "`completion.truncated` wrong" if paid else f"none of {len(cut)} is judged correct",
        )  # fmt: skip
        others = [
            (one, self._said(other.answer)) for one, other in zip(problems, problems[1:], strict=False)
            if other.answer and one.answer != other.answer
        ]  # fmt: skip
        right = self._paid(others)
        share = len(right) / max(1, len(others))
        says = f"{len(right)} of {len(others)} answers of other problems are judged correct"
        if share > 0.1:
            problem, text = right[0]
            says += f", for one {_short(text)} to {_short(problem.prompt)}: the verifier hardly looks at the problem"
        self.report.add("answers of other problems", "failed" if share > 0.1 else "ok", says)

    def check_guess(self, problems: Sequence[Problem]) -> None:
        """How far one gets without looking at the problem."""
        answers = Counter(problem.answer for problem in problems if problem.answer)
        if not answers:
            return
        guess, _ = answers.most_common(1)[0]
        share = len(self._paid([(problem, self._said(guess)) for problem in problems])) / len(problems)
        says = f"always answering {_short(guess)} is right for {share:.0%} of the problems"
        if share > 0.3:
            says += "; balance the answers, or compare every accuracy with that"
        self.report.add("one answer for all", "warning" if share > 0.3 else "ok", says)

    def check_hack(self, name: str, problems: Sequence[Problem]) -> None:
        """Whether a hack pays."""
        tried = problems[: 1 if name in COSTLY else _FEW]
        answers = list(dict.fromkeys(problem.answer for problem in problems if problem.answer))
        texts = []
        for problem in tried:
            others = [answer for answer in answers if answer != problem.answer][:5]
            right = self._said(problem.answer)
            texts += [
                (problem, text) for text in HACKS[name](Case(problem, others, self.show)) if text != right
            ]
        self._all_wrong(
            f"hack: {name}", texts,
            "this is what a policy would learn instead of the task; make the verifier stricter",
        )  # fmt: skip

    def check_format(self, problems: Sequence[Problem]) -> None:
        """A wrong answer in good form must not be paid as much as a right one."""
        known = next((problem for problem in problems if problem.answer), None)
        if known is None:
            return
        right, wrong = self.judge(known, self._said(known.answer)), self.judge(known, self._said("qwzvjk"))
        if right is None or wrong is None or "accuracy" not in right.rewards:
            self.report.add(
                "reward", "failed", "a verdict has no reward part `accuracy`, which training asks for"
            )
            return
        gap = right.rewards["accuracy"] - wrong.rewards.get("accuracy", 0.0)
        says = f"a right answer earns {right.rewards['accuracy']:g}, a wrong one in good form {gap:g} less"
        if gap <= 0:
            says += ": nothing would be learned; give the verifier that decides more weight"
        self.report.add("reward", "ok" if gap > 0 else "failed", says)

    def check_conduct(self) -> None:
        """What was seen of the verifier through all of this."""
        report, tried = self.report, len(self.seconds)
        broken = self.broken[0] if self.broken else ""
        report.add(
            "the verifier holds", "failed" if broken else "ok",
            f"{len(self.broken)} completions broke it, for one {broken}: `judge` must never raise, and must pay finite "
            "numbers" if broken else f"{tried} completions, none raised an error",
        )  # fmt: skip
        unsteady = self.unsteady[0] if self.unsteady else ""
        report.add(
            "the same verdict twice", "failed" if unsteady else "ok",
            f"{len(self.unsteady)} completions were judged differently the second time, for one {unsteady}: a run "
            "could not be resumed; take out what is random"
            if unsteady else "what was judged again was judged the same",
        )  # fmt: skip
        share = len(self.unjudged) / max(1, tried)
        says = f"{len(self.unjudged)} of {tried} completions got no verdict"
        if self.unjudged:
            text, verdict = self.unjudged[0]
            says += f", for one {_short(text)} ({_short(verdict.reason)}); they are left out of the loss"
        report.add("no verdict", "warning" if share > 0.02 else "ok", says)
        mean, slowest = sum(self.seconds) / max(1, tried), max(self.seconds, default=0.0)
        says = f"{1000 * mean:.3g} ms a verdict, {1000 * slowest:.3g} ms the slowest"
        if slow := mean > _SLOW or slowest > _SLOWEST:
            says += f"; judging a step of 256 completions takes {256 * mean:.0f} s, and the slowest holds all others up"
        report.add("time", "warning" if slow else "ok", says)

    def _said(self, answer: str) -> str:
        return f"Some words of thought.\n</think>\n\n{self.show(answer)}"

    def _right(self, problem: Problem, form: Callable[[str], str]) -> bool:
        self.show = form
        verdict = self.judge(problem, self._said(problem.answer))
        return verdict is not None and verdict.outcome == "correct"

    def _paid(self, texts: Iterable[tuple[Problem, str]]) -> list[tuple[Problem, str]]:
        """Those that are judged correct."""
        judged = [(problem, text, self.judge(problem, text)) for problem, text in texts]
        return [
            (problem, text) for problem, text, verdict in judged if verdict and verdict.outcome == "correct"
        ]

    def _all_wrong(self, name: str, texts: Sequence[tuple[Problem, str]], otherwise: str) -> None:
        paid = self._paid(texts)
        if not paid:
            self.report.add(name, "ok", f"none of {len(texts)} is judged correct")
            return
        problem, text = paid[0]
        self.report.add(
            name, "failed",
            f"{len(paid)} of {len(texts)} are judged correct, for one {_short(text)} to {_short(problem.prompt)}, "
            f"whose answer is {_short(problem.answer)}; {otherwise}",
        )  # fmt: skip


def _short(text: str) -> str:
    return repr(text if len(text) <= 70 else f"{text[:50]} ... {text[-15:]}")
