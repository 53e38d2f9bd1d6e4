"""Stages run in order, each once, whatever happens in between. They are fakes here: nothing is computed."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from run_cases import evaluation_row, pretraining_row, reinforcement_row

from longjing.errors import UserError
from longjing.recipe import running
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe, task_of
from longjing.recipe.schema import Recipe
from longjing.runs import RunDirectory, StageDirectory

TEXT = """\
name: small
seed: 5
threads: 1
device: cpu
stages:
  - kind: pretrain
    name: read
    model: {model_type: llama, hidden_size: 8, intermediate_size: 8,
            num_hidden_layers: 1, num_attention_heads: 1}
    corpus: {countdown: 1}
    steps: 4
  - kind: reinforce
    name: zero
    model: read
    task: {name: countdown, difficulty: 1}
    steps: 4
    max_tokens: 16
"""


class Stages:
    """Stands in for the loops of `learning`. `breaks`: (stage, step, exception) to raise."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self.breaks: tuple[str, int, BaseException] | None = None
        self.started: list[tuple[Any, dict[str, Any]]] = []

    def _run(self, settings: Any, stage: StageDirectory, row: Any, **given: Any) -> None:
        self.started.append((settings, given))
        state = stage.load_state()
        for step in range(state[1]["step"] + 1 if state else 0, settings.steps):
            stage.metrics.append(row(step))
            if self.breaks and self.breaks[:2] == (stage.name, step):
                raise self.breaks[2]
            stage.save_state(step, {"weight": torch.tensor(float(step))}, {})
            self.steps.append((stage.name, step))
        with stage.model_directory() as path:
            (path / "config.json").write_text("{}")
        stage.finish({})

    def pretrain(self, settings: Any, stage: StageDirectory, **given: Any) -> None:
        self._run(settings, stage, pretraining_row, **given)

    def reinforce(self, settings: Any, stage: StageDirectory, **given: Any) -> None:
        self._run(settings, stage, reinforcement_row, **given)
        stage.evaluations.append(evaluation_row(settings.steps - 1, "test", 0.5))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    fakes = Stages()
    monkeypatch.setattr(running, "pretrain", fakes.pretrain)
    monkeypatch.setattr(running, "reinforce", fakes.reinforce)
    return fakes


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "small.yaml").write_text(TEXT)
    return load(tmp_path / "small.yaml")


ALL = [(stage, step) for stage in ("read", "zero") for step in range(4)]


def start(recipe: Recipe, out: Path) -> str:
    screen = Console(file=io.StringIO(), width=200)
    run_recipe(recipe, out, screen)
    return screen.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_stages_run_in_order_and_end_in_a_report(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    assert stages.steps == ALL
    (_, given), (settings, _) = stages.started
    assert given == {"seed": 5, "device": torch.device("cpu"), "dtype": torch.float32}
    assert Path(settings.model) == tmp_path / "run" / "read" / "model"
    assert (tmp_path / "run" / "report.html").exists()
    assert load(tmp_path / "run" / "recipe.yaml").here() == recipe.here()
    bill = json.loads((tmp_path / "run" / "bill.json").read_text())
    assert bill["phases"]["read"] == {
        "tokens_sampled": 0,
        "tokens_trained": 400,
        "flops": 4e9,
        "seconds": 2.0,
    }
    assert bill["phases"]["zero"] == {
        "tokens_sampled": 4000,
        "tokens_trained": 3600,
        "flops": 4e9,
        "seconds": 8.0,
    }
    assert bill["phases"]["zero: evaluation"]["seconds"] == 3.0 and bill["total"]["seconds"] == 13.0


def test_a_finished_run_is_not_run_again(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    assert "read: finished already" in start(recipe, tmp_path / "run")
    assert stages.steps == ALL


@pytest.mark.parametrize("stage", ["read", "zero"])
@pytest.mark.parametrize("step", [0, 2, 3])
def test_an_interrupted_run_is_accounted_for_and_goes_on(
    stages: Stages, recipe: Recipe, tmp_path: Path, stage: str, step: int
) -> None:
    stages.breaks = (stage, step, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(recipe, tmp_path / "run")
    assert "not finished" in (tmp_path / "run" / "report.html").read_text()
    stages.breaks = None
    start(recipe, tmp_path / "run")
    assert stages.steps == ALL
    rows = RunDirectory(tmp_path / "run").stage(stage).metrics.rows()
    assert [row["step"] for row in rows] == [0, 1, 2, 3]


def test_a_full_disk_stops_the_run(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    stages.breaks = ("zero", 1, UserError("the disk is full"))
    with pytest.raises(UserError, match="the disk is full"):
        start(recipe, tmp_path / "run")
    stages.breaks = None
    start(recipe, tmp_path / "run")
    assert stages.steps == ALL


def test_a_missing_model_is_refused_before_the_work(stages: Stages, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(TEXT.replace("model: read", "model: nowhere"))
    with pytest.raises(UserError, match="nowhere"):
        start(load(tmp_path / "small.yaml"), tmp_path / "run")
    assert stages.started == [] and not (tmp_path / "run").exists()


def test_another_recipe_is_refused(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    with pytest.raises(UserError, match="zero.group_size: 16 -> 4"):
        start(load(tmp_path / "small.yaml", ["group_size=4"]), tmp_path / "run")


def test_the_task_of_a_run_is_known(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    task = task_of(tmp_path / "run")
    assert task is not None and task.name == "countdown" and task.settings["difficulty"] == 1
    assert task_of(tmp_path) is None
