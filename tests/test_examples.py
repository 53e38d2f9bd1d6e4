"""The examples, whole, in a quick form: checked, trained on, and talked to."""

import io
import runpy
from itertools import islice, pairwise
from pathlib import Path

import pytest
from conversation_cases import read_conversations
from rich.console import Console

from longjing import tasks
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe
from longjing.runs import RunDirectory
from longjing.sandbox import layers
from longjing.tasks import Completion, Problem
from longjing.tasks.linter import check

ROOT = Path(__file__).parent.parent
QUICK = [
    "steps=1",
    "prompts_per_step=2",
    "group_size=2",
    "max_tokens=24",
    "evaluation.problems=2",
    "evaluation.samples=1",
]
isolated = pytest.mark.skipif(any(layer.required and layer.problem for layer in layers()), reason="no isolation here")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def run(name: str, changes: list[str], quick: bool, directory: Path) -> RunDirectory:
    written = RunDirectory(directory / "run")
    run_recipe(
        load(name, ["device=cpu", "threads=1", *changes], quick=quick), written.path, Console(file=io.StringIO())
    )
    return written


def test_a_task_of_ones_own_in_python(tmp_path: Path) -> None:
    assert check(tasks.get("examples/till.py"), 60).ok
    done = run("examples/till.yaml", [], True, tmp_path)
    assert [row["task"] for stage in done.stages() for row in stage.evaluations.rows()] == ["till"] * 4
    assert all(stage.result is not None for stage in done.stages())


def test_the_worked_examples_are_of_training_problems() -> None:
    task = tasks.get("examples/till.py")
    held_out = {problem.prompt for split in ("validation", "test") for problem in task.problems(split, 0)}
    worked = list(read_conversations(Path("examples/till-worked.jsonl")))
    assert len(worked) == 100
    assert held_out.isdisjoint(message.content for each in worked for message in each.messages)


def test_a_file_of_problems(tmp_path: Path) -> None:
    assert check(tasks.get("examples/sums.jsonl", verifier="number"), 60).ok
    report = check(tasks.get("examples/sums.jsonl", verifier="math"), 60)
    assert report.status("hack: the prompt repeated") == "failed", "the sum itself is no answer to it"
    done = run("r1-zero", ["task=examples/sums.jsonl", "task.verifier=number", *QUICK], False, tmp_path)
    assert {row["task"] for stage in done.stages() for row in stage.evaluations.rows()} == {"examples/sums.jsonl"}


@isolated
def test_a_task_whose_answers_are_programs() -> None:
    task = runpy.run_path(str(ROOT / "examples" / "code_task.py"))["Divisible"]()
    problems = {split: list(islice(task.problems(split, 0), 12)) for split in ("train", "validation", "test")}
    ids = [problem.id for some in problems.values() for problem in some]
    assert len(set(ids)) == len(ids) and all(problems.values())

    def outcome(problem: Problem, program: str) -> str:
        text = f"Let me see.\n</think>\n\n```python\n{program}\n```"
        return task.judge(problem, Completion.parse(text)).outcome

    for problem, other in pairwise(problems["train"][:6]):
        assert outcome(problem, task.solve(problem)) == "correct"
        assert outcome(problem, task.solve(other)) == "wrong"
        assert outcome(problem, f"print({problem.data['tests'][0]['stdout']})") == "wrong"


def test_the_same_task_on_a_real_model(smollm2: Path, tmp_path: Path) -> None:
    done = run("examples/till-smollm2.yaml", [], True, tmp_path)
    assert [row["task"] for stage in done.stages() for row in stage.evaluations.rows()] == ["till"] * 4
