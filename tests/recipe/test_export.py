"""Models taken out: to a directory and to GGUF, from whatever has a name, whole or not at all."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from longjing.errors import UserError
from longjing.model.layers.lora import LoRAConfig, adapters, add_lora
from longjing.model.store.adapter import save_adapter
from longjing.model.store.checkpoint import load_model
from longjing.recipe.export import export_model
from longjing.runs.models import load
from longjing.text import Tokenizer
from longjing.text.modelfile import go_template

Base = Callable[[str], Path]
TURNS = [{"role": "user", "content": "12+3?"}]


@pytest.mark.parametrize("family", ["deepseek_v3", "llama"])
def test_a_model_goes_to_gguf_and_back_to_a_directory(base: Base, family: str, tmp_path: Path) -> None:
    before, tokenizer = load(base(family))
    lines = export_model(str(base(family)), None, tmp_path / "x.gguf", kind="F32")
    assert any("llama-cli" in line for line in lines) and any("ollama create" in line for line in lines)
    assert any("no rule that cuts text" in line for line in lines)
    export_model(str(tmp_path / "x.gguf"), None, tmp_path / "again", kind="F32")
    after, read = load(tmp_path / "again")
    assert all(torch.equal(after.state_dict()[name], tensor) for name, tensor in before.state_dict().items())
    assert read.template == tokenizer.template
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "again", dtype=torch.float32)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.allclose(theirs(ids).logits, after(ids), atol=1e-5)


@pytest.mark.parametrize("family", ["deepseek_v3", "llama"])
def test_bfloat16_goes_out_as_it_lies(base: Base, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In half of the memory that float32 takes, with the same bytes."""
    export_model(str(base(family)), None, tmp_path / "half")
    model, _ = load(tmp_path / "half", dtype=torch.bfloat16)
    targets = ("q_proj", "experts") if family == "deepseek_v3" else ("q_proj", "down_proj")
    add_lora(model, LoRAConfig(rank=2, targets=targets))
    for *_, adapter in adapters(model):
        adapter.b.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    save_adapter(model, tmp_path / "adapter", str(tmp_path / "half"))
    loaded = []

    def loads(*arguments: Any, **named: Any) -> Any:
        loaded.append(load(*arguments, **named))
        return loaded[-1]

    def written(directory: str) -> dict[Path, bytes]:
        (tmp_path / directory).mkdir()
        for kind in ("BF16", "Q8_0", "F16"):
            for source in ("half", "adapter"):
                export_model(str(tmp_path / source), None, tmp_path / directory / f"{source}-{kind}.gguf", kind=kind)
        for source in ("half", "adapter"):
            export_model(str(tmp_path / source), None, tmp_path / directory / source, merge=True)
        files = (tmp_path / directory).rglob("*.[gs]*")
        return {file.relative_to(tmp_path / directory): file.read_bytes() for file in files if file.is_file()}

    monkeypatch.setattr("longjing.recipe.export.load", loads)
    half = written("as it lies")
    dtypes = [model.embed_tokens.weight.dtype for model, _ in loaded]
    assert dtypes.count(torch.float32) == 2, "only an adapter's sum that is rounded to another format"
    monkeypatch.setattr("longjing.recipe.export.exact_dtype", lambda _: torch.float32)
    assert half == written("in float32") and len(half) >= 8


def test_the_modelfile_ends_where_the_model_does(base: Base, tmp_path: Path) -> None:
    export_model(str(base("llama")), None, tmp_path / "x.gguf", kind="Q8_0")
    lines = (tmp_path / "x.Modelfile").read_text("utf-8").splitlines()
    assert lines[0] == "FROM ./x.gguf"
    assert 'PARAMETER stop "<｜end▁of▁sentence｜>"' in lines and "PARAMETER temperature 0.6" in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.Modelfile", "x.gguf"]


def test_the_modelfile_samples_as_the_makers_do(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(name: str, **named: Any) -> Any:
        model, tokenizer = load(name)
        model.generation_config = {"temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.1}
        return model, tokenizer

    monkeypatch.setattr("longjing.recipe.export.load", loads)
    export_model(str(base("llama")), None, tmp_path / "x.gguf")
    lines = (tmp_path / "x.Modelfile").read_text("utf-8").splitlines()
    assert {"PARAMETER temperature 0.7", "PARAMETER top_p 0.8", "PARAMETER repeat_penalty 1.1"} <= {*lines}


def test_the_real_one_goes_out_with_its_template_and_transformers_reads_it(smollm2: Path, tmp_path: Path) -> None:
    _, tokenizer = load(smollm2)
    template = go_template(tokenizer)
    assert template is not None and template.startswith('{{ if ne (index .Messages 0).Role "system" }}<|im_start|>')
    export_model(str(smollm2), None, tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=True) == tokenizer.render(TURNS)
    ours = load_model(tmp_path / "hf", dtype=torch.bfloat16)
    assert torch.equal(ours.embed_tokens.weight, load_model(smollm2).embed_tokens.weight.bfloat16())


@pytest.mark.parametrize(
    ("target", "settings", "words"),
    [
        ("x", {"kind": "Q8_0"}, "the form hf has F32, F16, BF16"),
        ("x.gguf", {"kind": "Q4_K"}, "the form gguf has F32"),
        ("x.bin", {"form": "gguf"}, "ends in .gguf"),
        ("x.gguf", {"form": "hf"}, "is a directory"),
        ("x", {"stage": "sft"}, "is no run"),
    ],
)
def test_what_makes_no_sense_is_said(base: Base, tmp_path: Path, target: str, settings, words: str) -> None:
    with pytest.raises(UserError, match=words):
        export_model(str(base("llama")), settings.pop("stage", None), tmp_path / target, **settings)
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_that_does_not_fit_is_said(base: Base, tmp_path: Path) -> None:
    shutil.copytree(base("llama"), tmp_path / "model")
    Tokenizer.train(["Write what you like about 12 numbers. Wait, check."] * 9, 310).save(tmp_path / "model")
    with pytest.raises(UserError, match="its tokenizer has .* tokens, the network only"):
        export_model(str(tmp_path / "model"), None, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("target", ["x", "x.gguf"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(base: Base, tmp_path: Path, target: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write|can't be written"):
            export_model(str(base("llama")), None, tmp_path / target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
