"""Where the linter has completions judged, and what shows of the verifier meanwhile."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import get_args

from longjing.problems import Outcome, Problem, Verdict
from longjing.tasks.check.findings import Report, short
from longjing.tasks.check.hacks import COSTLY, HACKS, Case
from longjing.tasks.check.process import Lost, Raised, TaskProcess

_SLOW, _SLOWEST = 0.05, 1.0  # seconds of a verdict, in the mean and of the slowest
_HUNG, _ENDED = 6, 20  # completions that hang the verifier or end its process, after which no more are tried
_LOST = 2  # of one check, after which it goes no further: they are much alike
_ELSEWHEN = 150  # completions that are judged again at another time
# How an answer may have to be given; the first one in which the task takes its own answers is used.
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda answer: f"\\boxed{{{answer}}}",
    lambda answer: answer,
    lambda answer: f"```python\n{answer}\n```",
)


class GaveUp(Exception):
    """Too many completions hung the verifier, or ended its process."""


class Bench:
    """Judges completions twice, and keeps what shows of the verifier. `few`: problems that hacks are tried on. `say` is
    called with how many were judged."""

    def __init__(
        self,
        process: TaskProcess,
        elsewhen: TaskProcess,
        report: Report,
        few: int,
        say: Callable[[int], None],
    ) -> None:
        self.few = few
        self.process, self.elsewhen, self.report, self._say = process, elsewhen, report, say
        self.show = _FORMS[0]
        self.judged: list[tuple[Problem, str, bool, Verdict]] = []
        self.seconds: list[float] = []
        self.unjudged: list[tuple[str, Verdict]] = []
        self.unsteady: list[str] = []
        self.broken: list[str] = []
        self.hung: list[str] = []
        self.ended: list[str] = []

    def judge(self, problem: Problem, text: str, truncated: bool = False) -> Verdict | None:
        """The verdict; None if there is none, since the task raised an error, took too long or ended its process.

        Raises GaveUp once it has done so too often.
        """
        self._say(len(self.seconds))
        try:
            (seconds, verdict), (_, again) = self.process.judge(problem, text, truncated, times=2)
            self.seconds.append(seconds)
        except Raised as error:
            self.broken.append(f"{short(text)} raised {error}")
            return None
        except Lost as error:
            (self.hung if error.hung else self.ended).append(
                f"{short(text)} to {short(problem.prompt)} {error}"
            )
            if len(self.hung) >= _HUNG or len(self.ended) >= _ENDED:
                raise GaveUp from None
            return None
        if (again.outcome, again.rewards) != (verdict.outcome, verdict.rewards):
            self.unsteady.append(f"{short(text)} was {verdict.outcome}, then {again.outcome}")
        if verdict.outcome not in get_args(Outcome):
            self.broken.append(f"{short(text)} was judged {verdict.outcome!r}, which is no outcome")
        if not all(
            isinstance(value, int | float) and math.isfinite(value) for value in verdict.rewards.values()
        ):
            self.broken.append(f"{short(text)} was paid {verdict.rewards}, which is no finite number")
            return None
        if verdict.outcome == "unjudged":
            self.unjudged.append((text, verdict))
        self.judged.append((problem, text, truncated, verdict))
        return verdict

    def check_gold(self, problems: Sequence[Problem]) -> None:
        """The task's own answers must be right."""
        known = [problem for problem in problems if problem.answer]
        if not known:
            self.report.add("gold answers", "warning", "the problems have no answers, so none was tried")
            return
        self.show = max(_FORMS, key=lambda form: sum(self._right(problem, form) for problem in known[:5]))
        judged = [(problem, self._solved(problem)) for problem in known]
        judged += [(problem, self.judge(problem, self.said(problem.answer))) for problem in known]
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
            f"{short(problem.answer)} to {short(problem.prompt)} ({said}); nobody could ever solve these: mend the "
            "answer or choose another verifier",
        )  # fmt: skip

    def _solved(self, problem: Problem) -> Verdict | None:
        try:
            return self.judge(problem, self.said(self.process.solve(problem)))
        except (Raised, Lost) as error:
            hung = isinstance(error, Lost) and error.hung
            kept = self.hung if hung else self.broken
            kept.append(f"`solve` of {short(problem.prompt)} {'' if hung else 'raised '}{error}")
            if len(self.hung) >= _HUNG:
                raise GaveUp from None
            return None

    def check_wrong(self, problems: Sequence[Problem]) -> None:
        """Nothing, noise, and the answers to other problems must be wrong."""
        random = Random(0)
        empty = ("", "</think>", "\n</think>\n\n \n", "Some words.\n</think>")
        self._all_wrong(
            "empty completions", [(problem, text) for problem in problems[: self.few] for text in empty],
            "an empty completion is paid; a policy would learn to say nothing: refuse answers that are empty",
        )  # fmt: skip
        noise = [
            (problem, self.said("".join(random.choices("qwzvjk", k=random.randint(4, 12)))))
            for problem in problems for _ in range(2)
        ]  # fmt: skip
        self._all_wrong("random completions", noise, "noise is paid: the verifier takes too much for right")
        cut = [problem for problem in problems[: self.few] if problem.answer]
        verdicts = [self.judge(problem, self.said(problem.answer), truncated=True) for problem in cut]
        paid = sum(verdict is not None and verdict.outcome == "correct" for verdict in verdicts)
        self.report.add(
            "completions that were cut off", "failed" if paid else "ok",
            f"{paid} of {len(cut)} are judged correct, and nobody knows how they would have gone on: judge "
            "`completion.truncated` wrong" if paid else f"none of {len(cut)} is judged correct",
        )  # fmt: skip
        others = [
            (one, self.said(other.answer)) for one, other in zip(problems, problems[1:], strict=False)
            if other.answer and one.answer != other.answer
        ]  # fmt: skip
        right = self._paid(others)
        share = len(right) / max(1, len(others))
        says = f"{len(right)} of {len(others)} answers of other problems are judged correct"
        if share > 0.1:
            problem, text = right[0]
            says += f", for one {short(text)} to {short(problem.prompt)}: the verifier hardly looks at the problem"
        self.report.add("answers of other problems", "failed" if share > 0.1 else "ok", says)

    def check_guess(self, problems: Sequence[Problem]) -> None:
        """How far one gets without looking at the problem."""
        answers = Counter(problem.answer for problem in problems if problem.answer)
        if not answers:
            return
        guess, _ = answers.most_common(1)[0]
        share = len(self._paid([(problem, self.said(guess)) for problem in problems])) / len(problems)
        says = f"always answering {short(guess)} is right for {share:.0%} of the problems"
        if share > 0.3:
            says += "; balance the answers, or compare every accuracy with that"
        self.report.add("one answer for all", "warning" if share > 0.3 else "ok", says)

    def check_hack(self, name: str, problems: Sequence[Problem]) -> None:
        """Whether a hack pays."""
        tried = problems[: 1 if name in COSTLY else self.few]
        answers = list(dict.fromkeys(problem.answer for problem in problems if problem.answer))
        texts = []
        for problem in tried:
            others = [answer for answer in answers if answer != problem.answer][:5]
            right = self.said(problem.answer)
            texts += [
                (problem, text) for text in HACKS[name](Case(problem, others, self.show)) if text != right
            ]
        self._all_wrong(
            f"hack: {name}", texts,
            "this is what a policy would learn instead of the task; make the verifier stricter",
        )  # fmt: skip

    def check_time(self) -> None:
        """Verdicts at another time, in a process with another hash seed, must be the same."""
        changed, tried = [], self.judged[:: max(1, len(self.judged) // _ELSEWHEN)]
        for problem, text, truncated, verdict in tried:
            try:
                ((_, again),) = self.elsewhen.judge(problem, text, truncated)
            except (Raised, Lost) as error:
                changed.append(f"{short(text)} was {verdict.outcome}, then {error}")
                if len(changed) >= _LOST:
                    break
                continue
            given_up = "unjudged" in (verdict.outcome, again.outcome)  # a limit on time, say
            if not given_up and (again.outcome, again.rewards) != (verdict.outcome, verdict.rewards):
                changed.append(f"{short(text)} was {verdict.outcome}, then {again.outcome}")
        self.report.add(
            "the same verdict later", "failed" if changed else "ok",
            f"{len(changed)} of {len(tried)} completions were judged differently in another process, in which the "
            f"clock and the order of sets are others, for one {changed[0]}: take out what depends on time, on `hash`, "
            "or on what was judged before" if changed else
            "another process, with another clock and another order of sets, judges the same",
        )  # fmt: skip

    def check_conduct(self) -> None:
        """What was seen of the verifier through all of this."""
        report, tried = self.report, len(self.seconds)
        if self.hung:
            report.add(
                "verdicts end", "failed",
                f"{len(self.hung)} didn't, for one {self.hung[0]}: one such completion holds a whole run up; bound the "
                "verifier's time, in a process that can be killed if need be",
            )  # fmt: skip
        else:
            report.add("verdicts end", "ok", f"{tried} completions, each within its time")
        bad = [*self.ended, *self.broken]
        report.add(
            "the verifier holds", "failed" if bad else "ok",
            f"{len(bad)} completions broke it, for one {bad[0]}: `judge` must never raise nor end its process, and "
            "must pay finite numbers" if bad else f"{tried} completions, none raised an error",
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
            says += f", for one {short(text)} ({short(verdict.reason)}); they are left out of the loss"
        report.add("no verdict", "warning" if share > 0.02 else "ok", says)
        later = self.seconds[1:]  # the first one may have to start a verifier's own processes
        mean, slowest = sum(later) / max(1, len(later)), max(later, default=0.0)
        says = f"{1000 * mean:.3g} ms a verdict, {1000 * slowest:.3g} ms the slowest"
        if slow := mean > _SLOW or slowest > _SLOWEST:
            says += f"; judging a step of 256 completions takes {256 * mean:.0f} s, and the slowest holds all others up"
        report.add("time", "warning" if slow else "ok", says)

    def said(self, answer: str, thought: str = "Some words of thought.") -> str:
        return f"{thought}\n</think>\n\n{self.show(answer)}"

    def _right(self, problem: Problem, form: Callable[[str], str]) -> bool:
        self.show = form
        verdict = self.judge(problem, self.said(problem.answer))
        return verdict is not None and verdict.outcome == "correct"

    def _paid(self, texts: Iterable[tuple[Problem, str]]) -> list[tuple[Problem, str]]:
        """Those that are judged correct."""
        lost, found = len(self.hung) + len(self.ended), []
        for problem, text in texts:
            verdict = self.judge(problem, text)
            if verdict and verdict.outcome == "correct":
                found.append((problem, text))
            if len(self.hung) + len(self.ended) >= lost + _LOST:
                break
        return found

    def _all_wrong(self, name: str, texts: Sequence[tuple[Problem, str]], otherwise: str) -> None:
        paid = self._paid(texts)
        if not paid:
            self.report.add(name, "ok", f"none of {len(texts)} is judged correct")
            return
        problem, text = paid[0]
        self.report.add(
            name, "failed",
            f"{len(paid)} of {len(texts)} are judged correct, for one {short(text)} to {short(problem.prompt)}, "
            f"whose answer is {short(problem.answer)}; {otherwise}",
        )  # fmt: skip
