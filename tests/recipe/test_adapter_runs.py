"""A recipe whose stages train adapters: what it measures, exports and says, and how later stages take it."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import peft
import pytest
import torch
import transformers
import yaml
from rich.console import Console
from typer.testing import CliRunner

import longjing
from longjing.cli import app
from longjing.errors import UserError
from longjing.model.layers.lora import has_adapter
from longjing.model.store.adapter import base_of
from longjing.recipe.export import _adapter_lines, export_model
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe
from longjing.runs import RunDirectory
from longjing.runs.resolve import SHIPPED

TOKENS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def run(base: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """An adapter, the same one further, and a stage that merges it."""
    directory = tmp_path_factory.mktemp("adapters")
    policy = {"task": {"name": "arithmetic"}, "steps": 1, "prompts_per_step": 2, "group_size": 2, "max_tokens": 8,
              "learning_rate": 0.01, "evaluation": {"problems": 1, "samples": 1}}  # fmt: skip
    rows = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!" * n}]} for n in (1, 9)]
    (directory / "talks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    stages = [
        {"kind": "finetune", "name": "taught", "data": [str(directory / "talks.jsonl")], "row_length": 64,
         "model": str(base("llama")), "lora": {"rank": 2}, "learning_rate": 0.1},
        policy | {"kind": "reinforce", "name": "further", "model": "taught", "lora": {"rank": 2}},
        policy | {"kind": "reinforce", "name": "whole", "model": "further"},
    ]  # fmt: skip
    measure = {"tasks": {"arithmetic": {}}, "problems": 1, "samples": 1, "max_tokens": 8}
    recipe = {"name": "tiny", "device": "cpu", "threads": 1, "stages": stages, "measure": measure, "final": "further"}
    (directory / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    run_recipe(load(directory / "tiny.yaml"), directory / "run", Console(file=StringIO()))
    return RunDirectory(directory / "run")


@torch.no_grad()
def test_a_run_is_loaded_with_its_adapter_where_it_lies_and_where_it_is_moved_to(
    run: RunDirectory, base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = longjing.load(run.path)
    assert has_adapter(model) and not torch.equal(model(TOKENS), longjing.load(base("llama"))[0](TOKENS))
    assert not has_adapter(longjing.load(run.path / "whole")[0])
    config = run.path / "further" / "model" / "adapter_config.json"
    (tmp_path / "further").mkdir()
    shutil.copytree(config.parent, tmp_path / "further" / "model")
    moved = tmp_path / "further" / "model" / "adapter_config.json"
    moved.write_text(config.read_text().replace(str(base("llama")), "/nowhere/taught/model"))
    monkeypatch.chdir(moved.parent)
    with pytest.raises(UserError, match=r"belongs to the model /nowhere/taught/model, which isn't there any more"):
        longjing.load(".")
    shutil.copytree(base("llama"), tmp_path / "taught" / "model")
    assert torch.equal(longjing.load(".")[0](TOKENS), model(TOKENS))
    assert {row["checkpoint"] for row in run.checkpoints.rows()} == {str(base("llama")), "taught", "further", "whole"}


@torch.no_grad()
def test_export_copies_the_adapter_or_merges_it(run: RunDirectory, tmp_path: Path) -> None:
    want = longjing.load(run.path)[0](TOKENS)
    export_model(str(run.path), None, tmp_path / "adapter")
    assert torch.equal(longjing.load(tmp_path / "adapter")[0](TOKENS), want)
    card = (tmp_path / "adapter" / "README.md").read_text("utf-8")
    assert "library_name: peft" in card and "rank 2, alpha 4" in card and "--max-lora-rank 2" in card
    assert "PeftModel.from_pretrained" in card and "as it is, with no remote code" not in card
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(theirs(TOKENS).logits, want, rtol=0, atol=1e-4)
    export_model(str(run.path), None, tmp_path / "whole", kind="F32", merge=True)
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(merged(TOKENS).logits, want, rtol=0, atol=1e-4)
    assert "as it is, with no remote code" in (tmp_path / "whole" / "README.md").read_text("utf-8")
    export_model(str(run.path), None, tmp_path / "whole.gguf", kind="F32")
    torch.testing.assert_close(longjing.load(tmp_path / "whole.gguf")[0](TOKENS), want, rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="F32; leave it out, or give --merge"):
        export_model(str(run.path), None, tmp_path / "x", kind="BF16")


@torch.no_grad()
def test_what_is_exported_names_its_base_as_others_find_it(
    run: RunDirectory, base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGJING_CACHE", str(tmp_path / "cache"))
    export_model(str(base("llama")), None, tmp_path / "cache" / "SmolLM2-135M-Instruct.Q4_1.gguf", kind="F32")
    adapter = tmp_path / "adapter"
    shutil.copytree(run.path / "further" / "model", adapter)
    values = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(values | {"base_model_name_or_path": "smollm2"}))
    for source, target in ((adapter, tmp_path / "out"), (tmp_path / "out", tmp_path / "again")):
        lines = export_model(str(source), None, target)
        config = peft.PeftConfig.from_pretrained(target)
        assert config.base_model_name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"
        assert lines[0].startswith("note: it was trained beside smollm2")
        assert any(line.startswith("peft: ") and config.base_model_name_or_path in line for line in lines)
        assert base_of(target) == "smollm2"
        torch.testing.assert_close(longjing.load(target)[0](TOKENS), longjing.load(run.path)[0](TOKENS))
    named = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(named | {"base_model_name_or_path": "another"}))
    assert base_of(target) == "another", "what somebody writes there goes"
    (adapter / "adapter_config.json").write_text(json.dumps(named))
    assert base_of(adapter) == "HuggingFaceTB/SmolLM2-135M-Instruct", "another's adapter is of those numbers"


def test_an_adapter_is_told_where_others_have_its_base(run: RunDirectory, base: Callable[[str], Path]) -> None:
    model = longjing.load(run.path)[0]
    for name, shown in (("r1", str(SHIPPED / "r1")), (str(base("llama")), str(base("llama"))), ("x.gguf", "BASE")):
        lines = _adapter_lines(model, name, Path("out"))
        assert f'"{shown}"' in lines[-2] and f"vllm serve {shown} --enable-lora --max-lora-rank 2" in lines[-1]


@torch.no_grad()
def test_the_commands_take_an_adapter(run: RunDirectory, tmp_path: Path) -> None:
    def command(*words: str) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.output

    adapter = str(run.path / "further" / "model")
    command("export", adapter, str(tmp_path / "merged"), "--merge", "--dtype", "float32")
    merged, _ = longjing.load(tmp_path / "merged")
    torch.testing.assert_close(merged(TOKENS), longjing.load(adapter)[0](TOKENS), rtol=0, atol=1e-5)
    options = ("--task", "arithmetic", "--problems", "1", "--samples", "1", "--max-tokens", "8")
    assert "pass@1" in command("eval", adapter, *options)
    assert str(run.path) in command("compare", str(tmp_path / "merged"), str(run.path), *options)
