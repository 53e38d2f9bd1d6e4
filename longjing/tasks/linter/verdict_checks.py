"""The linter's checks of verdicts: right answers, wrong ones, hacks, another time, and the verifier's conduct.

Each takes the grader that judges for it, and reports one finding or some.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from longjing.problems import Problem
from longjing.tasks.linter.grader import LEAST_LOST, Grader
from longjing.tasks.linter.report import Status, short
from longjing.tasks.linter.reward_hacks import COSTLY, HACKS, Case
from longjing.tasks.linter.task_process import NoAnswer, TaskRaised

_SLOW, _SLOWEST = 0.05, 1.0  # seconds of a verdict, in the mean and of the slowest
_REPEATED = 150  # completions that are judged again at another time


def check_gold(grader: Grader, problems: Sequence[Problem]) -> None:
    """The task's own answers must be right."""
    answered = [problem for problem in problems if problem.answer]
    if not answered:
        return grader.report.add("gold answers", "warning", "no gold answers")
    grader.choose_form(answered[:5])
    judged = [(problem, grader.judge_solution(problem)) for problem in answered]
    judged += [(problem, grader.judge(problem, grader.completion(problem.answer))) for problem in answered]
    wrong = [(problem, verdict) for problem, verdict in judged if verdict is None or verdict.outcome != "correct"]
    if not wrong:
        return grader.report.add("gold answers", "ok", count=len(answered))
    problem, verdict = wrong[0]
    verdict_text = "an error" if verdict is None else f"{verdict.outcome}: {verdict.reason}"
    gaps: dict[str, Any] = {
        "wrong": len({problem.id for problem, _ in wrong}),
        "count": len(answered),
        "verdict": verdict_text,
    }
    grader.report.add("gold answers", "failed", problem=problem, **gaps)


def check_wrong(grader: Grader, problems: Sequence[Problem]) -> None:
    """Check that nothing, noise, and the answers to other problems are wrong."""
    random = Random(0)
    empty = ("", "</think>", "\n</think>\n\n \n", "Some words.\n</think>")
    sample = problems[: grader.sample_size]
    grader.expect_wrong("empty completions", [(problem, text) for problem in sample for text in empty])
    noise = [
        (problem, grader.completion("".join(random.choices("qwzvjk", k=random.randint(4, 12)))))
        for problem in problems for _ in range(2)
    ]  # fmt: skip
    grader.expect_wrong("random completions", noise)
    cut = [problem for problem in sample if problem.answer]
    verdicts = [grader.judge(problem, grader.completion(problem.answer), truncated=True) for problem in cut]
    paid = sum(verdict is not None and verdict.outcome == "correct" for verdict in verdicts)
    status: Status = "failed" if paid else "ok"
    grader.report.add("completions that were cut off", status, correct=paid, count=len(cut))
    others = [
        (one, grader.completion(other.answer)) for one, other in zip(problems, problems[1:], strict=False)
        if other.answer and one.answer != other.answer
    ]  # fmt: skip
    right = grader.correct_ones(others)
    problem, text = right[0] if right else (None, "")
    status = "failed" if len(right) / max(1, len(others)) > 0.1 else "ok"
    grader.report.add(
        "answers of other problems", status, problem=problem, text=text, correct=len(right), count=len(others)
    )


def check_guess(grader: Grader, problems: Sequence[Problem]) -> None:
    """How far one gets without looking at the problem."""
    answers = Counter(problem.answer for problem in problems if problem.answer)
    if not answers:
        return
    guess, _ = answers.most_common(1)[0]
    share = len(grader.correct_ones([(problem, grader.completion(guess)) for problem in problems])) / len(problems)
    grader.report.add("one answer for all", "warning" if share > 0.3 else "ok", text=guess, share=share)


def check_hack(grader: Grader, name: str, problems: Sequence[Problem]) -> None:
    """Whether a hack pays."""
    tried = problems[: 1 if name in COSTLY else grader.sample_size]
    answers = list(dict.fromkeys(problem.answer for problem in problems if problem.answer))
    texts = []
    for problem in tried:
        others = [answer for answer in answers if answer != problem.answer][:5]
        right = grader.completion(problem.answer)
        texts += [(problem, text) for text in HACKS[name](Case(problem, others, grader.show)) if text != right]
    grader.expect_wrong(f"hack: {name}", texts, "hack")


def check_reward(grader: Grader, problems: Sequence[Problem]) -> None:
    """A wrong answer in good form must not be paid as much as a right one."""
    example = next((problem for problem in problems if problem.answer), None)
    if example is None:
        return
    right = grader.judge(example, grader.completion(example.answer))
    wrong = grader.judge(example, grader.completion("qwzvjk"))
    if right is None or wrong is None or "accuracy" not in right.rewards:
        return grader.report.add("reward", "failed", "no accuracy")
    accuracy = right.rewards["accuracy"]
    gap = accuracy - wrong.rewards.get("accuracy", 0.0)
    grader.report.add("reward", "ok" if gap > 0 else "failed", accuracy=accuracy, gap=gap)


def check_time(grader: Grader) -> None:
    """Verdicts at another time, in a process with another hash seed, must be the same."""
    changed, tried = [], grader.judged[:: max(1, len(grader.judged) // _REPEATED)]
    for problem, text, truncated, verdict in tried:
        try:
            ((_, again),) = grader.another_time.judge(problem, text, truncated)
        except (TaskRaised, NoAnswer) as error:
            changed.append(f"{short(text)} was {verdict.outcome}, then {error}")
            if len(changed) >= LEAST_LOST:
                break
            continue
        given_up = "unjudged" in (verdict.outcome, again.outcome)  # a limit on time, say
        if not given_up and (again.outcome, again.rewards) != (verdict.outcome, verdict.rewards):
            changed.append(f"{short(text)} was {verdict.outcome}, then {again.outcome}")
    gaps: dict[str, Any] = {"changed": len(changed), "count": len(tried), "first": next(iter(changed), "")}
    grader.report.add("the same verdict later", "failed" if changed else "ok", **gaps)


def check_conduct(grader: Grader) -> None:
    """What was seen of the verifier through all of this."""
    report, tried = grader.report, len(grader.seconds)
    for check, seen in (
        ("verdicts end", grader.hung),
        ("the verifier holds", [*grader.ended, *grader.broken]),
        ("the same verdict twice", grader.unsteady),
    ):
        report.add(check, "failed" if seen else "ok", count=len(seen), tried=tried, first=next(iter(seen), ""))
    if grader.unjudged:
        _, text, _, verdict = grader.unjudged[0]
        status: Status = "warning" if len(grader.unjudged) / max(1, tried) > 0.02 else "ok"
        gaps: dict[str, Any] = {"count": len(grader.unjudged), "tried": tried, "reason": short(verdict.reason)}
        report.add("no verdict", status, text=text, **gaps)
    else:
        report.add("no verdict", "ok", "a verdict on each", tried=tried)
    later = grader.seconds[1:]  # the first one may have to start a verifier's own processes
    mean, slowest = sum(later) / max(1, len(later)), max(later, default=0.0)
    slow = mean > _SLOW or slowest > _SLOWEST
    report.add("time", "warning" if slow else "ok", mean=1000 * mean, slowest=1000 * slowest, step=256 * mean)
