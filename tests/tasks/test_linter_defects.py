"""The linter finds each defect in a small task that has just that one, and ends whatever the task does."""

import faulthandler
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from longjing.cli import app
from longjing.problems import Completion, Problem, Verdict, boxed, format_reward, split_of
from longjing.tasks.linter import check
from longjing.tasks.linter.problem_checks import plain_question
from longjing.tasks.linter.task_process import TaskProcess

Judge = Callable[[Problem, Completion], Verdict]


def sound(problem: Problem, completion: Completion, extra: float = 0.0, **parts: float) -> Verdict:
    """Right is the boxed answer alone; `extra` is added to accuracy, `parts` stand beside it."""
    right = boxed(completion.answer) == problem.answer and not completion.truncated
    rewards = {"accuracy": right + extra, "format": format_reward(completion), **parts}
    return Verdict("correct" if right else "wrong", rewards, "")


def words(number: int, split: str) -> tuple[str, str]:
    return f"Which number comes {number} after {number * 7}?", str(number * 8 + 1000)


@dataclass
class Small:
    """Some hundred numbered questions, sound but for what is given."""

    judging: Judge = sound
    asking: Callable[[int, str], tuple[str, str]] = words
    drawing: Callable[[str], Iterator[int]] | None = None
    solving: Callable[[Problem], str] = lambda problem: problem.answer
    language: str = "en"
    name: str = "small"

    @property
    def settings(self) -> dict[str, Any]:
        return {}

    def problems(self, split: str, seed: int) -> Iterator[Problem]:
        for number in self.drawing(split) if self.drawing else range(400):
            if self.drawing or split_of(str(number)) == split:
                prompt, answer = self.asking(number, split)
                yield Problem(self.name, f"{number}", prompt, answer, {}, self.language)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        return self.judging(problem, completion)

    def solve(self, problem: Problem) -> str:
        return self.solving(problem)


def look(task: Small, seconds: float = 1.0, total: float = 60.0) -> Any:
    return check(task, problems=6, seconds=seconds, total=total)


def complaints(task: Small, **limits: float) -> dict[str, str]:
    return {f.check: f"{f.status} {f.says}" for f in look(task, **limits).findings if f.status != "ok"}


def test_a_sound_task_has_no_complaint() -> None:
    assert complaints(Small()) == {}
    chinese = Small(language="zh", asking=lambda n, _: (f"{n}的后面第{n}个数是几？", f"{n * 8 + 1000}个"))
    assert complaints(chinese) == {}


def when(test: Callable[[Problem, Completion], bool], act: Callable[[], Any]) -> Judge:
    def judge(problem: Problem, completion: Completion) -> Verdict:
        if test(problem, completion):
            act()
        return sound(problem, completion)

    return judge


def says_exit(_: Problem, completion: Completion) -> bool:
    return "exit()" in completion.answer


def end(error: BaseException) -> Callable[[], Any]:
    def act() -> None:
        raise error

    return act


def nest() -> None:
    sys.setrecursionlimit(10**8)
    nest()


def abort() -> None:
    faulthandler.disable()  # pytest's would print where
    os.abort()


ENDS: dict[str, tuple[Callable[[], Any], str]] = {
    "exit": (sys.exit, "SystemExit"),
    "interrupted": (end(KeyboardInterrupt()), "KeyboardInterrupt"),
    "no generator": (end(GeneratorExit()), "GeneratorExit"),
    "os._exit": (partial(os._exit, 0), "exit code 0"),
    "killed": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "its group killed": (lambda: os.killpg(0, signal.SIGKILL), "SIGKILL"),
    "aborted": (abort, "SIGABRT"),
    "no memory": (end(MemoryError()), "MemoryError"),
    "recursion": (end(RecursionError()), "RecursionError"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_verifier_that_ends_is_found_and_the_rest_is_checked(how: str) -> None:
    act, named = ENDS[how]
    report = look(Small(when(says_exit, act)))
    findings = {finding.check: finding for finding in report.findings}
    assert findings["the verifier holds"].status == "failed"
    assert named in findings["the verifier holds"].says and "exit()" in findings["the verifier holds"].says
    assert {f.check for f in report.findings if f.status == "failed"} == {"the verifier holds"}
    assert findings["answers in Chinese"].status == "ok"  # one of the last


def test_an_answer_that_is_evaluated_out_of_its_box_is_tried() -> None:
    judge = when(lambda _, completion: completion.answer.strip() == "exit()", sys.exit)
    assert "SystemExit" in complaints(Small(judge))["the verifier holds"]


def catastrophe() -> None:
    """A regular expression that holds the interpreter."""
    import re

    re.match(r"(a+)+$", "a" * 60 + "!")


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def spin() -> None:
    while True:
        pass


@pytest.mark.parametrize("act", [spin, deaf, catastrophe])
def test_a_verifier_that_hangs_is_found_within_its_time(act: Callable[[], Any]) -> None:
    began = time.monotonic()
    report = look(Small(when(says_exit, act)), seconds=0.5)
    findings = {finding.check: finding for finding in report.findings}
    assert findings["verdicts end"].status == "failed" and "exit()" in findings["verdicts end"].says
    assert "took over 0.5 s" in findings["verdicts end"].says
    assert time.monotonic() - began < 30


def test_one_that_always_hangs_or_dies_is_given_up() -> None:
    for act, named in ((spin, "verdicts end"), (partial(os._exit, 3), "the verifier holds")):
        report = look(Small(when(lambda *_: True, act)), seconds=0.3)
        assert report.status(named) == report.status("all checks made") == "failed"


def test_all_checks_together_have_a_limit() -> None:
    report = look(Small(when(lambda *_: True, partial(time.sleep, 0.05))), total=3.0)
    assert "after 3 s" in next(f.says for f in report.findings if f.check == "all checks made")


def forever(split: str) -> Iterator[int]:
    yield from range(100) if split == "train" else range(100, 103)
    if split == "validation":
        spin()
    if split == "test":
        sys.exit()


def test_problems_and_solutions_that_hang_or_end_are_found() -> None:
    findings = complaints(Small(drawing=forever), seconds=0.3)
    assert "took over" in findings["validation problems"] and "after 3" in findings["validation problems"]
    assert "SystemExit" in findings["test problems"]
    findings = complaints(Small(solving=lambda problem: spin() if problem.id == "5" else problem.answer), seconds=0.3)  # type: ignore[func-returns-value,return-value]
    assert "`solve`" in findings["verdicts end"]
    findings = complaints(Small(solving=lambda problem: sys.exit() if problem.id == "5" else problem.answer))
    assert "SystemExit" in findings["the verifier holds"]


def test_a_held_out_problem_comes_once() -> None:
    findings = complaints(Small(drawing=lambda split: iter(count() if split == "train" else [-1, -2, -1])))
    assert "comes twice in validation" in findings["splits are disjoint"]


def counting(word: str) -> Judge:
    return lambda p, c: sound(p, c, extra=0.01 * c.reasoning.count(word))


PAYS: dict[str, tuple[str, Judge]] = {
    "length": ("pay for length", lambda p, c: sound(p, c, extra=min(0.5, len(c.reasoning) / 10_000))),
    "length, right only": (
        "pay for length",
        lambda p, c: sound(p, c, extra=min(0.5, len(c.reasoning) / 10_000) * (boxed(c.answer) == p.answer)),
    ),
    "length of the answer": ("pay for length", lambda p, c: sound(p, c, extra=min(0.4, len(c.answer) / 10_000))),
    "lines": ("pay for length", lambda p, c: sound(p, c, lines=c.reasoning.count("\n"))),
    "therefore": ("pay for words", counting("therefore")),
    "however": ("pay for words", counting("however")),
    "wait": ("pay for words", lambda p, c: sound(p, c, reflection="wait" in c.reasoning.casefold())),
    "bold": ("pay for words", lambda p, c: sound(p, c, extra=0.2 * ("**" in c.answer))),
    "close": (
        "pay for wrong answers",
        lambda p, c: sound(p, c, extra=0.3 * ((boxed(c.answer) or "")[:2] == p.answer[:2] != boxed(c.answer))),
    ),
    "more than right": ("pay for wrong answers", lambda p, c: sound(p, c, extra=2.0 * (boxed(c.answer) == "qwzvjk"))),
    "Chinese reasoning": ("answers in Chinese", lambda p, c: replace(sound(p, c), **_wrong(not c.reasoning.isascii()))),
    "Chinese answer": ("answers in Chinese", lambda p, c: replace(sound(p, c), **_wrong("答案" in c.answer))),
    "clock": ("the same verdict later", lambda p, c: sound(p, c, extra=0.01 * (int(time.time()) // 86_400 % 7))),
    "random": ("the same verdict twice", lambda p, c: sound(p, c, extra=0.001 * random.random())),
}  # fmt: skip


def _wrong(so: bool) -> dict[str, Any]:
    return {"outcome": "wrong", "rewards": {"accuracy": 0.0, "format": 1.0}} if so else {}


@pytest.mark.parametrize("how", PAYS)
def test_what_is_paid_by_mistake_is_found(how: str) -> None:
    named, judge = PAYS[how]
    assert named in complaints(Small(judge))


def leap(number: int, split: str) -> tuple[str, str]:
    return f"Answer yes or no: is {number} even?", "no" if number % 2 else "yes"


PROMPTS: dict[str, tuple[Callable[[int, str], tuple[str, str]], str]] = {
    "told": (lambda n, _: (f"What is {n} + 1000? (Answer: {n + 1000})", f"{n + 1000}"), "failed"),
    "told in Chinese": (lambda n, _: (f"{n}加1000是多少？答案是{n + 1000}。", f"{n + 1000}"), "failed"),
    "told to some": (
        lambda n, _: (f"What is {n} + 1000?" + f" The answer is {n + 1000}." * (n % 10 == 0), f"{n + 1000}"), "failed",
    ),
    "held": (lambda n, _: (f"Think of {n + 1000} and {n}. What is {n} + 1000?", f"{n + 1000}"), "warning"),
    "by chance": (lambda n, _: (f"What is {n % 10} + {n // 10 % 10}?", f"{n % 10 + n // 10 % 10}"), ""),
    "yes or no": (leap, ""),
    "choices": (lambda n, _: (f"What is {n} + 1000? A) {n + 1000} B) {n + 1001}", f"{n + 1000}"), ""),
}  # fmt: skip


@pytest.mark.parametrize("how", PROMPTS)
def test_answers_that_stand_in_prompts_are_found_and_chance_is_none(how: str) -> None:
    asking, status = PROMPTS[how]
    assert complaints(Small(asking=asking)).get("answers in prompts", "").startswith(status or "\0") == bool(status)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is 2+2?", "what is 2 + 2", True),
        ("What is 2+2?", "What  is\n2+2 ?", True),
        ("It's so, isn't it?", "its so isnt it", True),
        ("计算 3 加 5。", "计算3加5", True),
        ("计算３加５", "计算 3 加 5！", True),
        ("Well—what is **2 - 2**?", "well, what is $2 − 2$", True),
        ("the two-part sum 2 – 2", "# The two part sum 2-2", True),
        ("«What» is\u200b 2×2?", "What is 2 · 2?", True),
        ("(2+3)*5", "2+(3*5)", False),
        ("two - two", "two + two", False),
        ("What is 2+2?", "What is 2-2?", False),
        ("What is 3, 5?", "What is 35?", False),
        ("What is 1.5?", "What is 15?", False),
        ("What is 2 2?", "What is 22?", False),
        ("x <= 2", "x >= 2", False),
    ],
)
def test_what_is_form_in_a_question(one: str, other: str, same: bool) -> None:
    assert (plain_question(one) == plain_question(other)) == same


@pytest.mark.parametrize("form", [str.upper, lambda text: text.replace(" ", "  "), lambda text: text[:-1] + " ?"])
def test_one_question_in_two_splits_in_another_form_is_found(form: Callable[[str], str]) -> None:
    def asking(number: int, split: str) -> tuple[str, str]:
        prompt, answer = words(number % 1000, split)
        return (form(prompt) if split == "test" else prompt), answer

    def drawing(split: str) -> Iterator[int]:
        return iter({"train": range(30), "validation": range(100, 110), "test": range(1000, 1030)}[split])

    findings = complaints(Small(asking=asking, drawing=drawing))
    assert "in test and, there as" in findings["splits are disjoint"]


HASHED = """
from longjing.tasks import ListedTask

class Hashed(ListedTask):
    name = "hashed"
    verifier = "number"

    def rows(self):
        for number in range(300):
            yield {"prompt": f"What is {number} + 1000?", "answer": number + 1000}

    def judge(self, problem, completion):
        verdict = super().judge(problem, completion)
        DEFECT
        return verdict
"""
DEFECTS = {
    "if 'exit()' in completion.answer: eval('exit()')": (1, "FAILED\tthe verifier holds"),
    "verdict.rewards['extra'] = float(hash('answer') % 1000)": (1, "FAILED\tthe same verdict later"),
    "from datetime import date; verdict.rewards['extra'] = float(date.today().toordinal() % 7)": (
        1, "FAILED\tthe same verdict later",
    ),
    "pass": (0, "0 failed, 0 warnings"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_the_command_makes_tasks_of_files_in_fresh_processes(defect: str, tmp_path: Path) -> None:
    path = tmp_path / "hashed.py"
    path.write_text(HASHED.replace("DEFECT", defect))
    code, says = DEFECTS[defect]
    result = CliRunner().invoke(app, ["tasks", "check", str(path), "--problems", "6"])
    assert (result.exit_code, says in result.output) == (code, True), result.output


def test_a_file_that_ends_the_process_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "ends.py"
    path.write_text("import os\nos._exit(0)\n")
    result = CliRunner().invoke(app, ["tasks", "check", str(path)])
    assert result.exit_code == 1 and "the task can be made" in result.output


def test_no_process_is_left_behind() -> None:
    with TaskProcess(Small(), 1.0, time.monotonic() + 60) as process:
        process.about()
        child = process._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
