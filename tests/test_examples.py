"""The examples, in quick form."""

import runpy
from itertools import islice, pairwise
from pathlib import Path

import pytest

from longjing.tasks import Completion, Problem
from longjing.tasks.sandbox import layers

EXAMPLES = Path(__file__).parent.parent / "examples"
isolated = pytest.mark.skipif(
    any(layer.required and layer.problem for layer in layers()), reason="no isolation here"
)


@isolated
def test_a_task_whose_answers_are_programs() -> None:
    task = runpy.run_path(str(EXAMPLES / "code_task.py"))["Divisible"]()
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
