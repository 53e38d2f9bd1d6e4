"""The linter's checks of verdicts: right answers, wrong ones, hacks, another time, and the verifier's conduct.

Each takes the grader that judges for it, and reports one finding or some.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random

from longjing.problems import Problem
from longjing.tasks.linter.grader import LEAST_LOST, Grader
from longjing.tasks.linter.report import short
from longjing.tasks.linter.reward_hacks import COSTLY, HACKS, Case
from longjing.tasks.linter.task_process import NoAnswer, TaskRaised

_SLOW, _SLOWEST = 0.05, 1.0  # seconds of a verdict, in the mean and of the slowest
_REPEATED = 150  # completions that are judged again at another time


def check_gold(grader: Grader, problems: Sequence[Problem]) -> None:
    """The task's own answers must be right."""
    answered = [problem for problem in problems if problem.answer]
    if not answered:
        grader.report.add("gold answers", "warning", "the problems have no answers, so none was tried")
        return
    grader.choose_form(answered[:5])
    judged = [(problem, grader.judge_solution(problem)) for problem in answered]
    judged += [(problem, grader.judge(problem, grader.completion(problem.answer))) for problem in answered]
    wrong = [(problem, verdict) for problem, verdict in judged if verdict is None or verdict.outcome != "correct"]
    if not wrong:
        grader.report.add("gold answers", "ok", f"all {len(answered)} are judged correct")
        return
    problem, verdict = wrong[0]
    verdict_text = "an error" if verdict is None else f"{verdict.outcome}: {verdict.reason}"
    grader.report.add(
        "gold answers", "failed",
        f"{len({problem.id for problem, _ in wrong})} of {len(answered)} are not judged correct, for one "
        f"{short(problem.answer)} to {short(problem.prompt)} ({verdict_text}); nobody could ever solve these: mend the "
        "answer or choose another verifier",
    )  # fmt: skip


def check_wrong(grader: Grader, problems: Sequence[Problem]) -> None:
    """Nothing, noise, and the answers to other problems must be wrong."""
    random = Random(0)
    empty = ("", "</think>", "\n</think>\n\n \n", "Some words.\n</think>")
    grader.expect_wrong(
        "empty completions", [(problem, text) for problem in problems[: grader.sample_size] for text in empty],
        "an empty completion is paid; a policy would learn to say nothing: refuse answers that are empty",
    )  # fmt: skip
    noise = [
        (problem, grader.completion("".join(random.choices("qwzvjk", k=random.randint(4, 12)))))
        for problem in problems for _ in range(2)
    ]  # fmt: skip
    grader.expect_wrong("random completions", noise, "noise is paid: the verifier takes too much for right")
    cut = [problem for problem in problems[: grader.sample_size] if problem.answer]
    verdicts = [grader.judge(problem, grader.completion(problem.answer), truncated=True) for problem in cut]
    paid = sum(verdict is not None and verdict.outcome == "correct" for verdict in verdicts)
    grader.report.add(
        "completions that were cut off", "failed" if paid else "ok",
        f"{paid} of {len(cut)} are judged correct, and nobody knows how they would have gone on: judge "
        "`completion.truncated` wrong" if paid else f"none of {len(cut)} is judged correct",
    )  # fmt: skip
    others = [
        (one, grader.completion(other.answer)) for one, other in zip(problems, problems[1:], strict=False)
        if other.answer and one.answer != other.answer
    ]  # fmt: skip
    right = grader.correct_ones(others)
    share = len(right) / max(1, len(others))
    says = f"{len(right)} of {len(others)} answers of other problems are judged correct"
    if share > 0.1:
        problem, text = right[0]
        says += f", for one {short(text)} to {short(problem.prompt)}: the verifier hardly looks at the problem"
    grader.report.add("answers of other problems", "failed" if share > 0.1 else "ok", says)


def check_guess(grader: Grader, problems: Sequence[Problem]) -> None:
    """How far one gets without looking at the problem."""
    answers = Counter(problem.answer for problem in problems if problem.answer)
    if not answers:
        return
    guess, _ = answers.most_common(1)[0]
    share = len(grader.correct_ones([(problem, grader.completion(guess)) for problem in problems])) / len(problems)
    says = f"always answering {short(guess)} is right for {share:.0%} of the problems"
    if share > 0.3:
        says += "; balance the answers, or compare every accuracy with that"
    grader.report.add("one answer for all", "warning" if share > 0.3 else "ok", says)


def check_hack(grader: Grader, name: str, problems: Sequence[Problem]) -> None:
    """Whether a hack pays."""
    tried = problems[: 1 if name in COSTLY else grader.sample_size]
    answers = list(dict.fromkeys(problem.answer for problem in problems if problem.answer))
    texts = []
    for problem in tried:
        others = [answer for answer in answers if answer != problem.answer][:5]
        right = grader.completion(problem.answer)
        texts += [(problem, text) for text in HACKS[name](Case(problem, others, grader.show)) if text != right]
    grader.expect_wrong(
        f"hack: {name}", texts,
        "this is what a policy would learn instead of the task; make the verifier stricter",
    )  # fmt: skip


def check_reward(grader: Grader, problems: Sequence[Problem]) -> None:
    """A wrong answer in good form must not be paid as much as a right one."""
    example = next((problem for problem in problems if problem.answer), None)
    if example is None:
        return
    right = grader.judge(example, grader.completion(example.answer))
    wrong = grader.judge(example, grader.completion("qwzvjk"))
    if right is None or wrong is None or "accuracy" not in right.rewards:
        grader.report.add("reward", "failed", "a verdict has no reward part `accuracy`, which training asks for")
        return
    gap = right.rewards["accuracy"] - wrong.rewards.get("accuracy", 0.0)
    says = f"a right answer earns {right.rewards['accuracy']:g}, a wrong one in good form {gap:g} less"
    if gap <= 0:
        says += ": nothing would be learned; give the verifier that decides more weight"
    grader.report.add("reward", "ok" if gap > 0 else "failed", says)


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
    grader.report.add(
        "the same verdict later", "failed" if changed else "ok",
        f"{len(changed)} of {len(tried)} completions were judged differently in another process, in which the "
        f"clock and the order of sets are others, for one {changed[0]}: take out what depends on time, on `hash`, "
        "or on what was judged before" if changed else
        "another process, with another clock and another order of sets, judges the same",
    )  # fmt: skip


def check_conduct(grader: Grader) -> None:
    """What was seen of the verifier through all of this."""
    report, tried = grader.report, len(grader.seconds)
    if grader.hung:
        report.add(
            "verdicts end", "failed",
            f"{len(grader.hung)} didn't, for one {grader.hung[0]}: one such completion holds a whole run up; bound the "
            "verifier's time, in a process that can be killed if need be",
        )  # fmt: skip
    else:
        report.add("verdicts end", "ok", f"{tried} completions, each within its time")
    bad = [*grader.ended, *grader.broken]
    report.add(
        "the verifier holds", "failed" if bad else "ok",
        f"{len(bad)} completions broke it, for one {bad[0]}: `judge` must never raise nor end its process, and "
        "must pay finite numbers" if bad else f"{tried} completions, none raised an error",
    )  # fmt: skip
    unsteady = grader.unsteady[0] if grader.unsteady else ""
    report.add(
        "the same verdict twice", "failed" if unsteady else "ok",
        f"{len(grader.unsteady)} completions were judged differently the second time, for one {unsteady}: a run "
        "could not be resumed; take out what is random"
        if unsteady else "what was judged again was judged the same",
    )  # fmt: skip
    share = len(grader.unjudged) / max(1, tried)
    says = f"{len(grader.unjudged)} of {tried} completions got no verdict"
    if grader.unjudged:
        first = grader.unjudged[0]
        says += f", for one {short(first.text)} ({short(first.verdict.reason)}); they are left out of the loss"
    report.add("no verdict", "warning" if share > 0.02 else "ok", says)
    later = grader.seconds[1:]  # the first one may have to start a verifier's own processes
    mean, slowest = sum(later) / max(1, len(later)), max(later, default=0.0)
    says = f"{1000 * mean:.3g} ms a verdict, {1000 * slowest:.3g} ms the slowest"
    if slow := mean > _SLOW or slowest > _SLOWEST:
        says += f"; judging a step of 256 completions takes {256 * mean:.0f} s, and the slowest holds all others up"
    report.add("time", "warning" if slow else "ok", says)
