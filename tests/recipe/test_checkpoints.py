"""Every checkpoint is measured once on every task, on the same problems."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.recipe.checkpoints import measure
from longjing.recipe.schema import MeasureSettings
from longjing.runs import RunDirectory
from longjing.runs.jsonl import Row

TASKS = {"letters": {}, "vowels": {"name": "letters", "wanted": "aeiou"}}


def rows(
    run: RunDirectory, model: Path, tasks: dict[str, dict[str, Any]], checkpoint: str = "one"
) -> tuple[list[Row], list[str]]:
    settings = MeasureSettings(tasks=tasks, problems=3, samples=2, max_tokens=12, temperature=1.0)
    notices: list[str] = []
    measure(
        settings, run, checkpoint, model, Runtime(1, torch.device("cpu"), torch.float32), step=0, say=notices.append,
        watcher=lambda done, number, tokens: None,
    )  # fmt: skip
    return run.checkpoints.rows(), notices


@pytest.mark.usefixtures("letters")
def test_what_is_measured_already_is_not_measured_again(base: Callable[[str], Path], tmp_path: Path) -> None:
    model = base("llama")
    measured, notices = rows(RunDirectory(tmp_path), model, TASKS)
    assert [(row["checkpoint"], row["label"]) for row in measured] == [("one", "letters"), ("one", "vowels")]
    assert len(notices) == 2 and notices[0].startswith("one on letters: ")
    for row in measured:
        assert row["problems"] == 3 and row["samples"] == 2 and 0 <= row["language"] <= 1
        assert [example["problem"] for example in row["examples"]] == ["test 0", "test 1", "test 2"]
    assert rows(RunDirectory(tmp_path), model, TASKS) == (measured, [])
    (tmp_path / "half").mkdir()
    half = RunDirectory(tmp_path / "half")
    rows(half, model, {"letters": {}})
    again, notices = rows(half, model, TASKS)
    timeless = [{key: row[key] for key in row if key != "seconds"} for row in measured]
    assert [{key: row[key] for key in row if key != "seconds"} for row in again] == timeless and len(notices) == 1


@pytest.mark.usefixtures("letters")
def test_what_is_measured_on_other_problems_is_refused(base: Callable[[str], Path], tmp_path: Path) -> None:
    model, run = base("llama"), RunDirectory(tmp_path)
    measured, _ = rows(run, model, TASKS)
    others = TASKS | {"vowels": {"name": "letters", "wanted": "xyz"}}
    with pytest.raises(UserError, match=r'(?s)two on vowels.*wanted: "aeiou" -> "xyz".*checkpoints\.jsonl'):
        rows(run, model, others, "two")
    assert run.checkpoints.rows() == measured  # nothing is measured before that is known
    assert rows(run, model, others)[0] == measured  # what is done is done
    assert len(rows(run, model, TASKS, "two")[0]) == 4


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_from_before_a_rule_came_are_taken_and_that_is_said(
    base: Callable[[str], Path], tmp_path: Path, mixed: bool
) -> None:
    def tasks(**settings: str) -> dict[str, dict[str, Any]]:
        task = {"name": "stream-of-search", **settings}
        return {"sos": {"name": "mixture", "parts": [task]} if mixed else task}

    model, run = base("llama"), RunDirectory(tmp_path)
    rows(run, model, tasks())
    with pytest.raises(UserError, match="intermediate"):
        rows(run, model, tasks(intermediate="any"), "two")
    kept = run.checkpoints.path.read_text()
    older = kept.replace(', "intermediate": "natural"', "").replace('"intermediate": "natural", ', "")
    assert "intermediate" not in older
    run.checkpoints.path.write_text(older)
    measured, notices = rows(run, model, tasks(), "two")
    assert len(measured) == 2 and "one was measured before intermediate was a setting" in notices[0]
