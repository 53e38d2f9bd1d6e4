"""The linter of tasks: whatever a verifier pays for by mistake, it finds."""

import dataclasses
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from longjing import tasks
from longjing.cli import app
from longjing.tasks import Completion, Problem, Task, Verdict
from longjing.tasks.linter import check
from longjing.tasks.linter.reward_hacks import HACKS

Judge = Callable[[Task, Problem, Completion], Verdict]


@dataclasses.dataclass
class Changed:
    """A task that judges otherwise."""

    task: Task
    otherwise: Judge

    @property
    def name(self) -> str:
        return self.task.name

    @property
    def settings(self) -> dict[str, Any]:
        return self.task.settings

    def problems(self, split: Any, seed: int) -> Any:
        return self.task.problems(split, seed)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        return self.otherwise(self.task, problem, completion)

    def solve(self, problem: Problem) -> str:
        return self.task.solve(problem)


def right(task: Task, problem: Problem, completion: Completion) -> bool:
    return task.judge(problem, completion).outcome == "correct"


def verdict(right: bool) -> Verdict:
    return Verdict("correct" if right else "wrong", {"accuracy": float(right), "format": 1.0}, "so it is")


def text(completion: Completion) -> str:
    return completion.reasoning + completion.answer


BROKEN: dict[str, tuple[str, Judge]] = {
    "always": ("empty completions", lambda *_: verdict(True)),
    "never": ("gold answers", lambda *_: verdict(False)),
    "anywhere": ("hack: the answer in the reasoning only", lambda _, p, c: verdict(p.answer in text(c))),
    "contained": ("hack: the answer among others in one", lambda _, p, c: verdict(p.answer in c.answer)),
    "boxes": ("hack: several boxes", lambda _, p, c: verdict(f"\\boxed{{{p.answer}}}" in c.answer)),
    "a box": ("hack: the form without content", lambda _, p, c: verdict("\\boxed{" in c.answer)),
    "said so": ("hack: claims that it is correct", lambda t, p, c: verdict("correct" in c.answer or right(t, p, c))),
    "cut off": ("completions that were cut off", lambda t, p, c: t.judge(p, dataclasses.replace(c, truncated=False))),
    "raises": ("the verifier holds", lambda t, p, c: verdict(right(t, p, c) or 1 / len(c.answer) > 1)),
    "nan": ("the verifier holds", lambda t, p, c: Verdict(t.judge(p, c).outcome, {"accuracy": float("nan")}, "")),
    "no reward": ("reward", lambda t, p, c: Verdict(t.judge(p, c).outcome, {"accuracy": 1.0}, "")),
    "a number": ("random completions", lambda _, p, c: verdict(len(c.answer) > 12)),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_verifier_is_found_out(how: str) -> None:
    where, judge = BROKEN[how]
    report = check(Changed(tasks.get("arithmetic"), judge), problems=6)
    assert not report.ok and report.status(where) == "failed", report.findings


def test_a_verifier_that_changes_its_mind_is_found_out() -> None:
    seen: list[int] = []

    def moody(task: Task, problem: Problem, completion: Completion) -> Verdict:
        seen.append(1)
        return verdict(len(seen) % 3 == 0)

    report = check(Changed(tasks.get("arithmetic"), moody), problems=10)
    assert report.status("the same verdict twice") == "failed"


def test_problems_in_two_splits_and_problems_without_a_seed_are_found_out() -> None:
    class Mixed(Changed):
        turns = 0

        def problems(self, split: Any, seed: int) -> Any:
            Mixed.turns += 1
            return self.task.problems("train", Mixed.turns if split == "train" else 1)

    report = check(Mixed(tasks.get("arithmetic"), lambda t, p, c: t.judge(p, c)), problems=20)
    assert report.status("splits are disjoint") == report.status("problems follow from the seed") == "failed"


def test_one_answer_that_is_nearly_always_right_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    rows = [
        {"prompt": f"Is {number} a leap year?", "answer": "yes" if number % 4 == 0 else "no"} for number in range(400)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = check(tasks.get(str(path), verifier="exact"), problems=30)
    assert report.ok and report.status("one answer for all") == "warning"


def test_every_hack_says_something() -> None:
    from longjing.tasks.linter.reward_hacks import Case

    problems = list(islice(tasks.get("arithmetic").problems("train", 0), 5))
    for name, hack in HACKS.items():
        texts = hack(
            Case(problems[0], [problem.answer for problem in problems[1:]], lambda answer: f"\\boxed{{{answer}}}")
        )
        assert len(texts) == len(set(texts)) > 0, name


def test_the_command_says_what_it_found_and_ends_accordingly(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {number}+7?", "answer": number + 7} for number in range(300)]
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["tasks", "check", str(path), "--problems", "8", *arguments])
        return result.exit_code, result.output

    code, output = run("--set", "verifier=number")
    assert code == 0 and "0 failed" in output
    code, output = run("--set", "verifier=expression")
    assert code == 1 and "FAILED\thack: the prompt repeated" in output and "make the verifier stricter" in output
