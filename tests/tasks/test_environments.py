"""Environments of the `verifiers` package: a contract with whichever form of it is installed."""

import sys
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from longjing import tasks
from longjing.errors import UserError
from longjing.tasks import Completion

PRESENT = """
import verifiers.v1 as vf

class Row(vf.TaskData):
    answer: str

class Sum(vf.Task[Row]):
    @vf.reward(weight=1.0)
    async def right(self, task: Row, trace) -> float:
        return float(trace.last_reply.strip() == task.answer)

class Sums(vf.Taskset[Sum, vf.TasksetConfig]):
    def load(self):
        for number in range(200):
            yield Sum(Row(prompt=f"What is {number} plus 7?", answer=str(number + 7)), self.config.task)

__all__ = ["Sums"]
"""
FORMER = """
import verifiers as vf
from datasets import Dataset

def right(completion, answer, **kwargs):
    return float(completion[-1]["content"].rpartition("</think>")[2].strip() == answer)

def load_environment(count: int = 200, many: bool = False):
    rows = [{"question": f"What is {number} plus 7?", "answer": str(number + 7)} for number in range(count)]
    kind = Talk if many else vf.SingleTurnEnv
    return kind(dataset=Dataset.from_list(rows), rubric=vf.Rubric(funcs=[right], weights=[1.0]))

class Talk(vf.MultiTurnEnv):
    async def env_response(self, messages, state, **kwargs):
        return []
"""
installed = pytest.mark.skipif(
    find_spec("verifiers") is None, reason="the package verifiers isn't installed: pip install verifiers"
)


def forms() -> list[str]:
    """Which of the two the installed release has."""
    if find_spec("verifiers") is None:
        return ["none"]
    import verifiers

    former = hasattr(verifiers, "load_environment")
    return [FORMER] if former else [PRESENT]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    (tmp_path / "sums_of_mine.py").write_text(forms()[0])
    return "verifiers:sums_of_mine"


@installed
def test_an_environment_is_a_task(module: str) -> None:
    task = tasks.get(module)
    train = list(islice(task.problems("train", 0), 5))
    assert train == list(islice(tasks.get(module).problems("train", 0), 5))
    problem = train[0]
    assert problem.prompt.startswith("What is") and "</think>" not in problem.prompt

    def judged(text: str) -> Any:
        return task.judge(problem, Completion.parse(text))

    gold = str(int(problem.prompt.split()[2]) + 7)
    assert judged(f"so\n</think>\n\n{gold}").outcome == "correct"
    assert judged(f"so\n</think>\n\n{gold}").rewards["accuracy"] == 1
    assert judged(f"{gold}\n</think>\n\n0").outcome == "wrong"
    assert judged("so\n</think>\n\n").outcome == "wrong"
    assert judged(f"so {gold}").outcome == "wrong"
    assert tasks.get(module, correct_from=0.5).judge(problem, Completion.parse(f"</think>{gold}")).outcome == "correct"


@installed
def test_what_is_no_single_turn_environment_is_refused(module: str) -> None:
    with pytest.raises(UserError, match="can't be opened"):
        tasks.get("verifiers:nothing_of_the_kind")
    if forms() == [FORMER]:
        assert tasks.get(module, count=150)
        with pytest.raises(UserError, match="only single-turn"):
            tasks.get(module, many=True)
        with pytest.raises(UserError, match="can't be opened"):
            tasks.get(module, cuont=150)
    with pytest.raises(UserError, match="brings its own verifier"):
        tasks.get(module, verifier="exact")


def test_without_the_package_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from longjing.tasks import environments

    monkeypatch.setattr(environments, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install verifiers"):
        tasks.get("verifiers:gsm8k")
