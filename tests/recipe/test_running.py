"""Stages run in order, each once, whatever happens in between. They are fakes here: nothing is computed."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from run_cases import evaluation_row, pretraining_row, reinforcement_row

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.files import digest
from longjing.recipe import running
from longjing.recipe.gates import GateClosed
from longjing.recipe.loading import load
from longjing.recipe.running import account, run_recipe, task_of
from longjing.recipe.schema import Recipe
from longjing.runs import RunDirectory, StageDirectory
from longjing.runs.resolve import resolve

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
        self.started: list[tuple[Any, Runtime]] = []

    def _run(self, settings: Any, stage: StageDirectory, row: Any, runtime: Runtime) -> None:
        self.started.append((settings, runtime))
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

    def run_stage(self, make: Any, settings: Any, stage: StageDirectory, runtime: Runtime) -> None:
        if settings.kind == "pretrain":
            self._run(settings, stage, pretraining_row, runtime)
        else:
            self._run(settings, stage, reinforcement_row, runtime)
            stage.evaluations.append(evaluation_row(settings.steps - 1, "test", 0.5))


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    fakes = Stages()
    monkeypatch.setattr(running, "run_stage", fakes.run_stage)
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
    (_, runtime), (settings, _) = stages.started
    assert runtime == Runtime(5, torch.device("cpu"), torch.float32)
    assert Path(settings.model) == tmp_path / "run" / "read" / "model"
    assert (tmp_path / "run" / "report.html").exists()
    assert load(tmp_path / "run" / "recipe.yaml").here() == recipe.here()
    bill = json.loads((tmp_path / "run" / "bill.json").read_text())
    assert bill["phases"]["read"] == {"tokens_sampled": 0, "tokens_trained": 400, "flops": 4e9, "seconds": 2.0}
    assert bill["phases"]["zero"] == {"tokens_sampled": 4000, "tokens_trained": 3600, "flops": 4e9, "seconds": 8.0}
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
    with pytest.raises(UserError, match="(?s)nowhere.*--set zero.model=PATH"):
        start(load(tmp_path / "small.yaml"), tmp_path / "run")
    assert stages.started == [] and not (tmp_path / "run").exists()


DATA = """\
name: data
threads: 1
device: cpu
stages:
  - {kind: finetune, name: tune, data: [draw]}
  - {kind: reward-model, name: safe, data: [pairs.jsonl]}
"""


def test_a_directory_stands_for_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: Stages) -> None:
    calls: list[Any] = []

    def learn(make: Any, settings: Any, stage: StageDirectory, runtime: Runtime) -> None:
        calls.append(settings.data)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "run_stage", learn)
    (tmp_path / "data.yaml").write_text(DATA)
    for name in ("draw", "pairs.jsonl"):  # nothing there, and a directory without data
        with pytest.raises(UserError, match=r"(?s)no such file: draw.* --set tune\.data\.0=PATH"):
            start(load("data.yaml"), tmp_path / "run")
        (tmp_path / name).mkdir()
    (tmp_path / "draw" / "data.jsonl").touch()
    with pytest.raises(UserError, match=r"(?s)no such file: pairs\.jsonl.* --set safe\.data\.0=PATH"):
        start(load("data.yaml"), tmp_path / "run")  # a directory holds no preference data
    with pytest.raises(KeyboardInterrupt):
        start(load("data.yaml", ["safe.data=[draw/data.jsonl]"]), tmp_path / "run")
    assert calls == [["draw/data.jsonl"]]


def test_another_recipe_is_refused(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    with pytest.raises(UserError, match="zero.group_size: 16 -> 4"):
        start(load(tmp_path / "small.yaml", ["group_size=4"]), tmp_path / "run")


def test_a_gate_stops_the_run_and_another_lets_it_go_on(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    path, out = tmp_path / "small.yaml", tmp_path / "run"
    path.write_text(TEXT.replace("    steps: 4\n", "    steps: 4\n    gate: {metric: loss, at_most: 1}\n", 1))
    for _ in range(2):  # a gate stays closed, and the work before it is not done again
        with pytest.raises(GateClosed, match=r"read did not pass its gate: loss is 2\..*at most 1"):
            start(load(path), out)
        assert stages.steps == ALL[:4]
        assert RunDirectory(out).read_json("read/gate.json")["passed"] is False
        assert "gate closed" in (out / "report.html").read_text()
    assert "read passed its gate" in start(load(path, ["read.gate.at_most=3"]), out)
    assert stages.steps == ALL and RunDirectory(out).read_json("read/gate.json")["passed"] is True
    assert RunDirectory(out).recipe()["stages"][0]["gate"]["at_most"] == 3
    with pytest.raises(UserError, match="zero.group_size"):
        start(load(path, ["read.gate=null", "group_size=4"]), out)
    start(load(path, ["read.gate=null"]), out)
    assert "gate closed" not in (out / "report.html").read_text() and not (out / "read/gate.json").exists()


def test_a_stage_that_has_not_begun_may_change(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    stages.breaks = ("zero", 0, UserError("it doesn't fit into the memory"))
    with pytest.raises(UserError, match="memory"):
        start(recipe, tmp_path / "run")
    stages.breaks = None
    start(load(tmp_path / "small.yaml", ["zero.group_size=4"]), tmp_path / "run")
    assert stages.steps == ALL and stages.started[-1][0].group_size == 4


def test_a_stage_that_is_deleted_begins_again_with_other_settings(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(
        settings: Any, run: RunDirectory, checkpoint: str, model: Path, runtime: Runtime, *, step: int, **_: Any
    ) -> None:
        rows = run.checkpoints.rows()
        if checkpoint not in [row["checkpoint"] for row in rows]:
            sampling = {"temperature": 1, "top_p": 1, "max_tokens": 9}
            row = evaluation_row(step, "test", 0.5) | {"sampling": sampling, "language": 1.0}
            run.checkpoints.append({**row, "checkpoint": checkpoint, "label": "x", "number": len(rows)})

    monkeypatch.setattr(running, "measure", measure)
    path, run = tmp_path / "small.yaml", RunDirectory(tmp_path / "run")
    path.write_text(TEXT.replace("stages:", "measure: {tasks: {countdown: {}}}\nstages:"))
    start(load(path, ["zero.model=base"]), run.path)
    rows = run.checkpoints.rows()
    assert [row["checkpoint"] for row in rows] == ["read", "base", "zero"]
    with pytest.raises(UserError, match="(?s)zero.model.*deleted"):
        start(load(path), run.path)
    shutil.rmtree(run.stage("zero").path)
    start(load(path, ["zero.steps=2"]), run.path)
    lineage = run.read_json("lineage.json")
    assert lineage["inputs"] == {} and lineage["stages"]["zero"]["settings"]["steps"] == 2
    assert run.checkpoints.rows()[:2] == rows[:2] and len(run.checkpoints.rows()) == 3
    assert stages.steps == [*ALL, ("zero", 0), ("zero", 1)]


def test_what_made_what_is_written_down(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    written = RunDirectory(tmp_path / "run").read_json("lineage.json")
    assert list(written["stages"]) == ["read", "zero"] and written["inputs"] == {}
    assert written["stages"]["zero"]["takes"] == {"model": "read"}
    model = written["stages"]["zero"]["makes"]
    assert model["path"] == "zero/model" and len(model["sha256"]) == 64


OUTSIDE = """\
name: outside
threads: 1
device: cpu
stages:
  - {kind: reinforce, name: one, model: begin, task: {name: countdown}, steps: 4, max_tokens: 16}
  - {kind: reinforce, name: two, model: begin, task: {name: countdown}, steps: 4, max_tokens: 16}
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe of two stages that begin with the same model from outside, `begin`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outside.yaml").write_text(OUTSIDE)
    weigh("1")
    return load("outside.yaml")


def weigh(weights: str) -> str:
    """Make the model from outside one with these weights; its digest."""
    Path("begin").mkdir(exist_ok=True)
    Path("begin/config.json").write_text("{}")
    Path("begin/model.safetensors").write_text(weights)
    return digest(Path("begin"))


def test_what_was_replaced_since_the_stage_began_is_refused(stages: Stages, outside: Recipe) -> None:
    run, old = RunDirectory("run"), weigh("1")
    stages.breaks = ("one", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(outside, run.path)
    assert run.read_json("one/inputs.json") == {"begin": old} and run.read_json("lineage.json") is None
    stages.breaks, new = None, weigh("2")
    for _ in range(2):
        with pytest.raises(UserError, match=f"(?s)begin.* changed since .*{old}.*{new}.*delete run/one"):
            start(outside, run.path)
    assert stages.steps == [("one", 0), ("one", 1)]
    weigh("1")
    start(outside, run.path)
    assert stages.steps == [(stage, step) for stage in ("one", "two") for step in range(4)]
    assert run.read_json("lineage.json")["inputs"] == {"begin": {"sha256": old}}


def test_a_stage_that_is_deleted_takes_what_is_there_now(stages: Stages, outside: Recipe) -> None:
    run = RunDirectory("run")
    stages.breaks = ("one", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(outside, run.path)
    stages.breaks, new = None, weigh("2")
    shutil.rmtree(run.path / "one")
    start(outside, run.path)
    assert run.read_json("lineage.json")["inputs"] == {"begin": {"sha256": new}}


def test_what_was_measured_of_a_model_that_no_stage_takes_any_more_is_forgotten(
    stages: Stages, outside: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, measured = RunDirectory("run"), list[tuple[str, str]]()

    def measure(
        settings: Any, run: RunDirectory, checkpoint: str, model: Path, runtime: Runtime, *, step: int, **_: Any
    ) -> None:
        if checkpoint not in [row["checkpoint"] for row in run.checkpoints.rows()]:
            measured.append((checkpoint, digest(model)))
            sampling = {"temperature": 1, "top_p": 1, "max_tokens": 9}
            run.checkpoints.append({**evaluation_row(step, "test", 0.5), "checkpoint": checkpoint, "label": "x",
                                    "language": 1.0, "sampling": sampling})  # fmt: skip

    monkeypatch.setattr(running, "measure", measure)
    recipe, old = load("outside.yaml", ["measure={tasks: {countdown: {}}}"]), weigh("1")
    stages.breaks = ("one", 2, KeyboardInterrupt())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            start(recipe, run.path)
    assert measured == [("begin", old)]
    shutil.rmtree(run.path / "one")
    stages.breaks, new = None, weigh("2")
    start(recipe, run.path)
    assert [each for each in measured if each[0] == "begin"] == [("begin", old), ("begin", new)]


def test_one_name_stands_for_one_thing_in_a_run(stages: Stages, outside: Recipe) -> None:
    run, old = RunDirectory("run"), weigh("1")
    stages.breaks = ("two", 0, KeyboardInterrupt())  # before anything of it is saved
    with pytest.raises(KeyboardInterrupt):
        start(outside, run.path)
    stages.breaks, new = None, weigh("2")
    with pytest.raises(UserError, match=f"(?s)two takes begin.*changed since one took it.*{old}.*{new}"):
        start(outside, run.path)
    Path("other").mkdir()
    for file in Path("begin").iterdir():
        shutil.copy(file, "other")
    weigh("1")
    start(load("outside.yaml", ["two.model=other"]), run.path)
    assert run.read_json("lineage.json")["inputs"] == {"begin": {"sha256": old}, "other": {"sha256": new}}


def test_what_was_made_of_something_replaced_has_to_go_with_it(stages: Stages, outside: Recipe) -> None:
    """Stages between, which took it at second hand, are named too."""
    between = "  - {kind: reinforce, name: mid, model: one, task: {name: countdown}, steps: 4, max_tokens: 16}\n"
    first, second = OUTSIDE.split("  - {kind: reinforce, name: two")
    Path("between.yaml").write_text(f"{first}{between}  - {{kind: reinforce, name: two{second}")
    run, recipe = RunDirectory("run"), load("between.yaml")
    stages.breaks = ("two", 0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(recipe, run.path)
    stages.breaks = None
    weigh("2")
    with pytest.raises(UserError, match="delete run/one, run/mid, and what is deleted begins again"):
        start(recipe, run.path)


def test_a_setting_that_has_come_since_is_at_its_default_in_older_runs(
    stages: Stages, recipe: Recipe, tmp_path: Path
) -> None:
    start(recipe, tmp_path / "run")
    path = tmp_path / "run/recipe.yaml"
    older = path.read_text().replace("  dynamic_sampling: 0\n", "")
    assert older != path.read_text()
    path.write_text(older)
    start(recipe, tmp_path / "run")
    path.write_text(older)
    with pytest.raises(UserError, match="zero.dynamic_sampling: 0 -> 2"):
        start(load(tmp_path / "small.yaml", ["dynamic_sampling=2"]), tmp_path / "run")


def test_a_run_from_before_such_notes_goes_on(stages: Stages, outside: Recipe) -> None:
    run = RunDirectory("run")
    stages.breaks = ("one", 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(outside, run.path)
    (run.path / "one" / "inputs.json").unlink()
    stages.breaks, new = None, weigh("2")
    start(outside, run.path)
    assert stages.steps == [(stage, step) for stage in ("one", "two") for step in range(4)]
    (run.path / "lineage.json").unlink()
    for name in ("one", "two"):
        (run.path / name / "inputs.json").unlink()
    start(outside, run.path)
    assert run.read_json("lineage.json")["inputs"] == {"begin": {"sha256": new}}


def test_checkpoints_are_measured_where_the_recipe_asks(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[Any, ...]] = []

    def measure(
        settings: Any, run: Any, checkpoint: str, model: Path, runtime: Runtime, *, step: int, **arguments: Any
    ) -> None:
        measured.append((checkpoint, model, step, runtime.seed))

    monkeypatch.setattr(running, "measure", measure)
    wanted = "measure: {tasks: {countdown: {}}}\nstages:"
    other = "name: other\n    model: base"
    (tmp_path / "small.yaml").write_text(
        TEXT.replace("stages:", wanted)
        + TEXT[TEXT.index("  - kind: reinforce") :].replace("name: zero\n    model: read", other)
    )
    run = tmp_path / "run"
    start(load(tmp_path / "small.yaml"), run)
    assert measured == [
        ("read", run / "read" / "model", 0, 5),
        ("zero", run / "zero" / "model", 1, 5),
        ("base", resolve("base"), -1, 5),
        ("other", run / "other" / "model", 2, 5),
    ]


def test_a_run_that_is_stopped_after_a_stage_goes_on_with_what_follows_it(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "small.yaml").write_text(TEXT.replace("stages:", "measure: {tasks: {countdown: {}}}\nstages:"))
    recipe, run, measured = load(tmp_path / "small.yaml"), RunDirectory(tmp_path / "run"), []

    def measure(settings: Any, run: Any, checkpoint: str, model: Path, *arguments: Any, **more: Any) -> None:
        measured.append(checkpoint)
        if len(measured) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(running, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        start(recipe, run.path)
    start(recipe, run.path)
    assert measured == ["read", "read", "zero"] and stages.steps == ALL
    assert list(run.read_json("lineage.json")["stages"]) == ["read", "zero"]


def test_the_bill_says_what_was_sampled_and_what_was_kept(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    start(recipe, run.path)
    stage = run.stage("read")
    stage.finish({"sampled": 128, "kept": 16})
    run.checkpoints.append({**evaluation_row(0, "test", 0.5), "checkpoint": "read", "label": "x", "language": 1.0,
                            "sampling": {"temperature": 1, "top_p": 1, "max_tokens": 9}})  # fmt: skip
    account(run)
    bill = run.read_json("bill.json")
    assert bill["kept"] == {"read": {"sampled": 128, "kept": 16}}
    assert bill["phases"]["read: comparison"]["tokens_sampled"] == 500
    assert "Of 128 samples read kept 16." in (run.path / "report.html").read_text()


def test_the_prices_of_the_recipe_are_those_of_the_bill(stages: Stages, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("prices: {watts: 1000, per_kwh: 3.6}\n" + TEXT)
    start(load(tmp_path / "small.yaml"), tmp_path / "run")
    bill = RunDirectory(tmp_path / "run").read_json("bill.json")
    assert bill["total"]["money"] == pytest.approx(bill["total"]["seconds"] / 1000)
    start(load(tmp_path / "small.yaml", ["prices.per_kwh=7.2"]), tmp_path / "run")
    dearer = RunDirectory(tmp_path / "run").read_json("bill.json")
    assert dearer["total"]["money"] == pytest.approx(2 * bill["total"]["money"])


def test_the_task_of_a_run_is_known(stages: Stages, recipe: Recipe, tmp_path: Path) -> None:
    start(recipe, tmp_path / "run")
    task = task_of(str(tmp_path / "run"))
    assert task is not None and task.name == "countdown" and task.settings["difficulty"] == 1
    assert task_of(str(tmp_path)) is None
    path = tmp_path / "run/recipe.yaml"
    plain = yaml.safe_load(path.read_text())
    for parts in (["countdown"], [{"weight": 2}], [3], "countdown"):
        plain["stages"][-1]["task"] = {"name": "mixture", "parts": parts}
        path.write_text(yaml.safe_dump(plain))
        assert task_of(str(tmp_path / "run")) is None
