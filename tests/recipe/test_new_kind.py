"""A new kind of stage is one file: here is one, and a recipe runs it as it runs all others."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field
from rich.console import Console

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.kinds import KINDS
from longjing.learning.loop import SILENT, Step, Trainer
from longjing.learning.settings import Settings
from longjing.learning.stage import DATA, REWARD_MODEL, StageKind
from longjing.recipe.gates import GateClosed
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe, task_of
from longjing.runs import RunDirectory, Watcher
from longjing.runs.metric import ChartSpec, Metric, Series
from longjing.runs.resolve import resolve

# The file of a new kind


class CountingSettings(Settings):
    """The settings of a counting stage."""

    kind: Literal["count"] = "count"
    steps: int = Field(ge=1)
    stride: int = Field(1, ge=1)


class Counting(Trainer):
    """Counts aloud."""

    totals = ("counted", "tokens", "flops")
    exports = False
    breaks: int | None = None

    def __init__(self, settings: CountingSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        self.settings, self.steps, self._count = settings, settings.steps, runtime.seed

    def step(self, step: int) -> Step:
        if step == self.breaks:
            raise KeyboardInterrupt
        self._count += self.settings.stride
        even = 1 - self._count % 2
        metrics = {"counted": self.settings.stride, "height": self._count, "even": even, "tokens": 1, "flops": 1.0}
        return Step(metrics, data=[{"text": f"{self._count}!"}])

    def restore(self, tensors: Any, totals: Any) -> None:
        self._count += totals["counted"]


def too_low(rows: Any) -> str | None:
    return "it hardly counts; raise `stride`" if rows[-1]["height"] < rows[-1]["step"] + 2 else None


STAGE = StageKind(
    CountingSettings, Counting,
    (Metric("counted"), Metric("height", "height", "{:.0f}"), Metric("even", form="{:.0%}")),
    [ChartSpec("How high", [Series("height")], first=True)], [too_low], makes=DATA, takes={},
)  # fmt: skip


class JudgingSettings(CountingSettings):
    """The settings of a stage that judges what it counts."""

    kind: Literal["judge"] = "judge"  # type: ignore[assignment]


class Judging(Counting):
    """Counts, and becomes a judge of counting."""

    exports = True

    def export(self, directory: Path) -> None:
        (directory / "config.json").write_text("{}")


JUDGE = StageKind(JudgingSettings, Judging, STAGE.metrics, (), makes=REWARD_MODEL, takes={})

# The end of that file

RECIPE = """\
name: count
device: cpu
threads: 1
seed: 5
stages:
  - {kind: count, steps: 8, stride: 2, gate: {metric: counted, at_least: 16}}
"""
JUDGES = "  - {kind: judge, steps: 2}\n"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setitem(KINDS, "count", STAGE)
    monkeypatch.setitem(KINDS, "judge", JUDGE)
    (tmp_path / "count.yaml").write_text(RECIPE)
    yield tmp_path / "count.yaml"


def start(recipe: Path, out: Path, *changes: str) -> str:
    screen = io.StringIO()
    run_recipe(load(recipe, changes), out, Console(file=screen, width=200))
    return screen.getvalue()


def test_it_runs_and_shows_how_it_comes_along(recipe: Path, tmp_path: Path) -> None:
    output, run = start(recipe, tmp_path / "run"), RunDirectory(tmp_path / "run")
    assert "count 8/8  height 17" in output and "count passed its gate: counted is 16" in output
    stage = run.stage("count")
    assert [row["text"] for row in stage.data.rows()] == [f"{count}!" for count in range(7, 22, 2)]
    assert stage.result is not None and stage.result["counted"] == 16
    assert run.read_json("lineage.json")["stages"]["count"]["makes"]["what"] == DATA
    assert "How high" in (run.path / "report.html").read_text("utf-8")
    assert run.read_json("bill.json")["phases"]["count"]["flops"] == 8.0


def test_it_goes_on_where_it_was_killed(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Counting, "breaks", 5)
        start(recipe, tmp_path / "broken")
    start(recipe, tmp_path / "broken")
    whole, broken = (RunDirectory(tmp_path / name).stage("count") for name in ("whole", "broken"))
    assert broken.data.rows() == whole.data.rows()
    assert [row["height"] for row in broken.metrics.rows()] == [row["height"] for row in whole.metrics.rows()]


def test_it_is_advised_held_to_its_gate_and_refused_by_its_settings(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(GateClosed, match="counted is 8; it must be at least 16"):
        start(recipe, tmp_path / "run", "stride=1", "seed=0")
    assert "it hardly counts; raise" in (tmp_path / "run" / "report.html").read_text("utf-8")
    with pytest.raises(UserError, match="there is no setting `strid`; did you mean `stride`"):
        start(recipe.with_name("count.yaml"), tmp_path / "other", "count.strid=1")
    with pytest.raises(UserError, match="asks for `hight` without a task, .*did you mean `height`"):
        load(recipe, ["count.gate.metric=hight"])


def test_its_numbers_stand_in_a_gate_as_it_writes_them(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(GateClosed, match="even is 0.0%; it must be at least 50.0%"):
        start(recipe, tmp_path / "run", 'gate={"metric": "even", "at_least": 0.5}')


def test_what_it_makes_is_found_by_what_it_declares(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Counting, "breaks", 5)
        start(recipe, run)
    with pytest.raises(UserError, match="this run makes no model that talks$"):
        resolve(run)
    recipe.write_text(RECIPE + JUDGES)
    start(recipe, run)
    assert resolve(run, reward=True) == resolve(run / "judge") == run / "judge" / "model"
    with pytest.raises(UserError, match=f"makes no model that talks .judge is a reward model: {run}/judge"):
        resolve(run)
    assert task_of(str(run / "judge")) is None
