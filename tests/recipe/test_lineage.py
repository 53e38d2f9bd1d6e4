"""Which checkpoint, data and settings made which: entered once, and checkable from a shell."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from longjing.errors import UserError
from longjing.files import digest
from longjing.learning.stage import DATA, MODEL
from longjing.model.layers.lora import LoRAConfig, add_lora
from longjing.model.store.adapter import save_adapter
from longjing.recipe.lineage import begin, located, prune, record
from longjing.recipe.stages import Reference
from longjing.runs import RunDirectory
from longjing.runs.models import load

RECIPE: dict[str, Any] = {
    "seed": 3, "device": "cpu", "dtype": "float32", "threads": 1,
    "stages": [
        {"kind": "sample", "name": "draw", "model": "base", "problems": 3, "gate": {"metric": "kept"}},
        {"kind": "finetune", "name": "tune", "model": "base", "data": ["draw", "MORE"], "gate": None},
    ],
}  # fmt: skip


def test_a_digest_is_what_the_shell_says(tmp_path: Path) -> None:
    for name in ("b.json", "A.json", "a b.safetensors"):
        (tmp_path / name).write_text(name)
    (tmp_path / "state").mkdir()
    command = r"ls -p | grep -v '/$' | grep -v '\.md$' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    process = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert digest(tmp_path) == process.stdout.split()[0]
    one = subprocess.run(["sha256sum", tmp_path / "A.json"], capture_output=True, text=True, check=True)
    assert digest(tmp_path / "A.json") == one.stdout.split()[0]
    before = digest(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    assert digest(tmp_path) == before
    (tmp_path / "b.json").write_text("other weights")
    assert digest(tmp_path) != before


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    more = tmp_path / "more.jsonl"
    more.write_text("{}\n")
    RECIPE["stages"][1]["data"][1] = str(more)
    run = RunDirectory(tmp_path / "run")
    for stage in ("draw", "tune"):
        (run.path / stage / "model").mkdir(parents=True)
    run.stage("draw").data.append({"step": 0, "messages": []})
    (run.path / "tune" / "model" / "config.json").write_text("{}")
    return run


def test_the_lineage_says_what_made_what(run: RunDirectory) -> None:
    for stage in RECIPE["stages"]:
        record(run, RECIPE, stage)
    lineage = json.loads((run.path / "lineage.json").read_text())
    more = RECIPE["stages"][1]["data"][1]
    assert lineage["inputs"].keys() == {"base", more}
    assert lineage["inputs"][more]["sha256"] == digest(Path(more))
    draw, tune = lineage["stages"]["draw"], lineage["stages"]["tune"]
    assert draw["takes"] == {"model": "base"} and draw["settings"] == {"model": "base", "problems": 3}
    assert draw["makes"] == {
        "what": "data", "path": "draw/data.jsonl", "sha256": digest(run.path / "draw" / "data.jsonl"),
    }  # fmt: skip
    assert tune["takes"] == {"model": "base", "data.0": "draw", "data.1": more}
    assert tune["makes"]["path"] == "tune/model" and tune["seed"] == 3 and tune["version"]


def test_what_was_entered_stays(run: RunDirectory) -> None:
    record(run, RECIPE, RECIPE["stages"][0])
    before = (run.path / "lineage.json").read_text()
    run.stage("draw").data.append({"step": 1, "messages": []})
    record(run, RECIPE | {"seed": 4}, RECIPE["stages"][0])
    assert (run.path / "lineage.json").read_text() == before


def test_a_runs_reward_model_and_its_model_are_two_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kinds = {"talk": "finetune", "safe": "reward-model"}
    for name in kinds:
        Path("other", name, "model").mkdir(parents=True)
        Path("other", name, "model", "config.json").write_text(name)
    others = [{"name": name, "kind": kind} for name, kind in kinds.items()]
    Path("other/recipe.yaml").write_text(json.dumps({"stages": others}))
    Path("run/zero/model").mkdir(parents=True)
    stage = {
        "kind": "reinforce", "name": "zero", "model": "other", "preference": {"safety": "other", "helpfulness": None},
    }  # fmt: skip
    run, recipe = RunDirectory("run"), RECIPE | {"stages": [stage]}
    begin(run, recipe, stage)
    record(run, recipe, stage)
    lineage = json.loads(Path("run/lineage.json").read_text())
    assert lineage["stages"]["zero"]["takes"] == {"model": "other", "preference.safety": "other/safe/model"}
    for name, path in (("other", "other/talk/model"), ("other/safe/model", "other/safe/model")):
        assert lineage["inputs"][name]["sha256"] == digest(Path(path))


def test_an_adapter_from_outside_comes_with_its_base(
    run: RunDirectory, base: Callable[[str], Path], tmp_path: Path
) -> None:
    whole, adapter = tmp_path / "whole", tmp_path / "adapter"
    shutil.copytree(base("llama"), whole)
    model, _ = load(whole)
    add_lora(model, LoRAConfig(rank=2))
    save_adapter(model, adapter, str(whole))
    stage = RECIPE["stages"][0] | {"model": str(adapter)}
    recipe = RECIPE | {"stages": [stage]}
    begin(run, recipe, stage)
    run.write_json("draw/result.json", {})
    record(run, recipe, stage)
    lineage = json.loads((run.path / "lineage.json").read_text())
    assert lineage["stages"]["draw"]["takes"] == {"model": str(adapter), "model.base": str(whole)}
    assert lineage["inputs"] == {str(path): {"sha256": digest(path)} for path in (adapter, whole)}
    prune(run)
    again = RECIPE["stages"][1] | {"model": str(adapter), "data": [str(tmp_path / "more.jsonl")]}
    (whole / "config.json").write_text((whole / "config.json").read_text() + " ")
    recipe = RECIPE | {"stages": [stage, again]}
    (run.path / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(UserError, match=f"tune takes {whole}, which has changed since draw took it"):
        begin(run, recipe, again)


def test_what_comes_from_outside_is_found_or_refused() -> None:
    assert (located(Reference(("model",), "base", MODEL)) / "config.json").exists()
    assert located(Reference(("data", 0), "x.jsonl", DATA)) == Path("x.jsonl")
    with pytest.raises(UserError, match="nowhere"):
        located(Reference(("model",), "nowhere", MODEL))
