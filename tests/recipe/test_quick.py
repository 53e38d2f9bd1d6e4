"""The whole recipe in its quick form: every stage really runs, takes what the others made, and passes its gate."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conversation_cases import read_conversations
from rich.console import Console
from transformers import AutoModelForCausalLM

from longjing.errors import UserError
from longjing.files import digest
from longjing.learning.stage import DATA, MODEL, REWARD_MODEL
from longjing.model.store.checkpoint import load_model, load_reward_model
from longjing.recipe.card import about
from longjing.recipe.export import export_model
from longjing.recipe.gates import numbers
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe, task_of
from longjing.recipe.schema import Recipe
from longjing.recipe.stages import makes
from longjing.runs import RunDirectory
from longjing.runs.resolve import resolve
from longjing.toys.toy import STANDALONE


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load("r1", ["device=cpu", "threads=1"], quick=True)


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("quick") / "run")
    run_recipe(recipe, run.path, Console(file=io.StringIO()))
    return run


def test_every_stage_finishes_and_passes_its_gate(recipe: Recipe, run: RunDirectory) -> None:
    assert len(recipe.stages) == 12
    for stage in run.stages():
        assert stage.result is not None and stage.metrics.rows()
        assert run.read_json(f"{stage.name}/gate.json")["passed"] is True


def test_gates_may_ask_for_what_the_logs_hold_and_for_nothing_else(recipe: Recipe, run: RunDirectory) -> None:
    for stage in recipe.stages:
        logged = [run.stage(stage.name).result or {}, *run.stage(stage.name).metrics.rows()]
        assert {*stage.declared.figures(stage)} == {key for row in logged for key in numbers(row)}, stage.name


def test_every_stage_makes_what_it_says(recipe: Recipe, run: RunDirectory) -> None:
    made = {stage.name: makes(stage.kind) for stage in recipe.stages}
    assert {*made.values()} == {MODEL, DATA, REWARD_MODEL}
    readers = {
        MODEL: lambda stage: load_model(stage.model_path),
        REWARD_MODEL: lambda stage: load_reward_model(stage.model_path),
        DATA: lambda stage: read_conversations(stage.data.path),
    }
    for stage in run.stages():
        assert readers[made[stage.name]](stage)


def test_the_lineage_is_whole_and_its_digests_hold(recipe: Recipe, run: RunDirectory) -> None:
    lineage = run.read_json("lineage.json")
    assert list(lineage["stages"]) == [stage.name for stage in recipe.stages]
    assert lineage["inputs"] == {"base": {"sha256": digest(resolve("base"))}}
    for entry in lineage["stages"].values():
        assert entry["makes"]["sha256"] == digest(run.path / entry["makes"]["path"])
    assert lineage["stages"]["rl-2"]["takes"] == {
        "model": "sft", "preference.helpfulness": "helpfulness", "preference.safety": "safety",
    }  # fmt: skip
    assert len({entry["makes"]["sha256"] for entry in lineage["stages"].values()}) == 12


def test_every_checkpoint_is_measured_on_every_task(recipe: Recipe, run: RunDirectory) -> None:
    assert recipe.measure is not None
    names = ["base", *(stage.name for stage in recipe.stages if makes(stage.kind) == MODEL)]
    assert [(row["checkpoint"], row["label"]) for row in run.checkpoints.rows()] == [
        (name, label) for name in names for label in recipe.measure.tasks
    ]
    ids = {(row["label"], *(example["problem"] for example in row["examples"])) for row in run.checkpoints.rows()}
    assert len(ids) == len(recipe.measure.tasks)  # the same problems for every checkpoint


def test_reward_models_and_general_prompts_come_in_the_last_quarter_only(run: RunDirectory) -> None:
    first, last = run.stage("rl-2").metrics.rows()[0], run.stage("rl-2").metrics.rows()[-1]
    assert "reward_helpfulness" not in first and "reward_safety" not in first
    assert {"reward_helpfulness", "reward_safety", "reward_accuracy", "reward_language"} <= last.keys()


def test_the_samples_have_others_among_them(recipe: Recipe, run: RunDirectory) -> None:
    wanted: dict[str, dict[str, float]] = {stage.name: getattr(stage, "others", {}) for stage in recipe.stages}
    assert set(wanted["samples"]) == {"conversation", "limits", "worked", "practice"}
    for name in ("cold-start-data", "samples"):
        rows = [json.loads(line) for line in run.stage(name).data.path.read_text().splitlines()]
        others = [row["task"] for row in rows if row["task"] in STANDALONE]
        assert abs(len(others) / len(rows) - sum(wanted[name].values())) < 0.05
        assert set(others) <= set(wanted[name]) and bool(others) == bool(wanted[name])
        assert run.stage(name).result["kept"] == len(rows) - len(others)  # type: ignore[index]


def test_the_policies_learn_what_the_engine_sampled(run: RunDirectory) -> None:
    for name in ("r1-zero", "rl-1", "rl-2", "distilled-on-policy"):
        rows = run.stage(name).metrics.rows()
        assert all(row.get("logprob_difference", 0.0) < 1e-5 for row in rows)
        assert any(row["grad_norm"] > 0 for row in rows)


def test_bill_and_report_cover_the_whole_recipe(recipe: Recipe, run: RunDirectory) -> None:
    bill, report = run.read_json("bill.json"), (run.path / "report.html").read_text()
    assert {stage.name for stage in recipe.stages} <= bill["phases"].keys()
    assert bill["kept"].keys() == {"cold-start-data", "samples"}
    assert all(phase["seconds"] > 0 and phase["flops"] > 0 for phase in bill["phases"].values())
    assert "All checkpoints on all tasks" in report and "not begun" not in report


def test_people_talk_to_the_final_model(run: RunDirectory) -> None:
    assert resolve(run.path) == run.path / "rl-2" / "model"
    task = task_of(run.path)
    assert task is not None and task.name == "mixture"


def test_the_same_command_finds_nothing_left_to_do(recipe: Recipe, run: RunDirectory) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*/model/*")}
    screen = Console(file=io.StringIO())
    run_recipe(recipe, run.path, screen)
    assert screen.file.getvalue().count("finished already") == 12  # type: ignore[attr-defined]
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*/model/*")}


def test_a_stage_runs_alone_on_any_checkpoint(tmp_path: Path) -> None:
    changes = ["device=cpu", "threads=1", "rl-1.model=base", "measure=null"]
    with pytest.raises(UserError, match="'countdown', on which nothing is measured"):
        load("r1", changes, quick=True, only=["rl-1"])
    changes.append("rl-1.gate={metric: pass_at_1, task: mixture, at_least: 0}")
    alone = load("r1", changes, quick=True, only=["rl-1"])
    assert alone.name == "r1-quick-rl-1"
    run_recipe(alone, tmp_path / "run", Console(file=io.StringIO()))
    assert resolve(tmp_path / "run") == tmp_path / "run" / "rl-1" / "model"


def test_an_exported_model_is_the_runs_and_its_card_says_how_it_was_made(run: RunDirectory, tmp_path: Path) -> None:
    directory = tmp_path / "small"
    export_model(str(run.path), "distilled", directory, kind="BF16")
    before, after = (load_model(path).state_dict() for path in (run.stage("distilled").model_path, directory))
    assert all(torch.equal(after[name], tensor.bfloat16().float()) for name, tensor in before.items())
    card = (directory / "README.md").read_text("utf-8")
    labels = [line.split(" | ")[0].strip("| ") for line in card.splitlines() if line.startswith("| ")]
    for stage in ("r1-zero", "cold-start-data", "cold-start", "rl-1", "samples", "student-base", "distilled"):
        assert stage in labels, "something that it was made from is missing"
    assert "| 0.0 s" not in card, "a stage took no time"
    assert "rl-2" not in labels and "sft" not in labels
    measured = [line.split(" | ")[1] for line in card.splitlines() if line.startswith("| countdown | ")]
    assert measured == ["base", "student-base", "distilled"]
    AutoModelForCausalLM.from_pretrained(directory)


def test_what_a_person_wrote_on_a_card_stays(run: RunDirectory, tmp_path: Path) -> None:
    card = tmp_path / "mine" / "README.md"
    export_model(str(run.path), None, card.parent, kind="F32")
    written = card.read_text("utf-8")
    assert "stage `rl-2`" in written and "float32" in written
    card.write_text(f"# Mine\n{written.replace('float32', 'FLOAT')}\nIt can't dance.\n", "utf-8")
    export_model(str(run.path), None, card.parent, kind="F32")
    again = card.read_text("utf-8")
    assert again.startswith("# Mine\n") and again.endswith("\nIt can't dance.\n") and "FLOAT" not in again
    for own in ("# All mine\n", "<!-- facts -->\nhalf marked\n"):
        card.write_text(own, "utf-8")
        export_model(str(run.path), None, card.parent, kind="F32")
        assert card.read_text("utf-8") == own


def test_a_card_states_a_licence_only_of_what_is_all_the_packages_own(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def front(stage: str) -> Any:
        card = tmp_path / "model" / "README.md"
        card.unlink(missing_ok=True)
        export_model(str(run.path), stage, card.parent, kind="F32")
        assert about(card) == "A model that Longjing made." and "\n## What it can't do\n" in card.read_text()
        head = card.read_text().split("---\n")[1]
        assert ("# license, language: fill them in" in head) == ("license: mit" not in head)
        return yaml.safe_load(head)

    own = {"license": "mit", "language": ["en", "zh"], "tags": ["longjing", "llama", "synthetic"]}
    assert front("student-base").items() >= own.items()
    recipe, lineage, read = run.recipe(), run.read_json("lineage.json"), RunDirectory.read_json
    recipe["stages"][0]["task"]["parts"][0]["name"] = "chat.jsonl"
    with monkeypatch.context() as patch:  # problems from outside: of what was made from them
        patch.setattr(RunDirectory, "recipe", lambda _: recipe)
        assert front("student-base").items() >= own.items()
        assert front("cold-start").keys() == {"library_name", "pipeline_tag", "tags"}
        assert front("cold-start")["tags"] == ["longjing", "deepseek_v3"]
    lineage["inputs"]["base"]["sha256"] = "0" * 64
    monkeypatch.setattr(
        RunDirectory, "read_json", lambda self, name: lineage if name == "lineage.json" else read(self, name)
    )
    assert front("student-base")["tags"] == ["longjing", "llama"]  # it has somebody's tokenizer


@pytest.mark.parametrize("stage", ["rl-3", "helpfulness", "samples"])
def test_what_makes_no_model_is_not_exported(run: RunDirectory, stage: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no stage '{stage}' that makes a model"):
        export_model(str(run.path), stage, tmp_path / "x", kind="F32")


def test_the_student_may_be_of_another_family(run: RunDirectory, tmp_path: Path) -> None:
    """Llama in the recipe; Qwen2 by a setting, through the same three stages."""
    changes = [
        "device=cpu", "threads=1", "student-base.model.model_type=qwen2",
        f"distilled.data=[{run.stage('samples').data.path}]", f"distilled-on-policy.teacher={run.path / 'rl-2'}",
    ]  # fmt: skip
    stages = ["student-base", "distilled", "distilled-on-policy"]
    run_recipe(load("r1", changes, quick=True, only=stages), tmp_path / "run", Console(file=io.StringIO()))
    students = [load_model(tmp_path / "run" / stage / "model") for stage in stages]
    assert {student.config.model_type for student in students} == {"qwen2"}
    assert all(stage.result for stage in RunDirectory(tmp_path / "run").stages())
