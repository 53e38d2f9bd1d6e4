"""What a model's files say of how it is sampled, and where its text ends."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from longjing.errors import UserError
from longjing.generation.defaults import SamplingDefaults
from longjing.generation.native import Engine, Request, Sampling
from longjing.gguf import GGUF
from longjing.model.families.gguf import config_values
from longjing.model.store.checkpoint import load_model, save_model
from longjing.recipe.export import export_model
from longjing.text.tokenizer import Tokenizer

TURNS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}I:{% endif %}"
)


def directory(path: Path, generation: dict[str, Any] | None = None, config_end: int | None = 5) -> Path:
    """A model whose config.json names one end, generation_config.json others, and the tokenizer its own."""
    save_model(tiny.network("llama", eos_token_id=config_end), path)
    tiny.tokenizer().save(path)
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


@pytest.mark.parametrize(
    ("generation", "ends"),
    [(None, {5}), ({}, {5}), ({"eos_token_id": 7}, {5, 7}), ({"eos_token_id": [7, 8]}, {5, 7, 8})],
)
def test_a_text_ends_at_every_token_that_the_files_name(tmp_path: Path, generation: Any, ends: set[int]) -> None:
    path = directory(tmp_path, generation)
    tokenizer = Tokenizer.from_directory(path)
    engine = Engine(load_model(path), tokenizer)
    assert engine.end_tokens == ends | {tokenizer.eos_id}
    for end in engine.end_tokens:
        sampling = Sampling(max_tokens=9, logit_bias={end: 1000.0})
        (said,) = engine.generate([Request([40], sampling)])
        assert said.tokens == [end] and said.finish_reason == "stop" and said.text == ""


def test_a_turn_ends_where_the_template_ends_it(tmp_path: Path) -> None:
    path = directory(tmp_path)
    backend = json.loads((path / "tokenizer.json").read_text())
    new = max(backend["model"]["vocab"].values()) + 1
    backend["added_tokens"].append({
        "id": new, "content": "<|end|>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
        "normalized": False,
    })  # fmt: skip
    (path / "tokenizer.json").write_text(json.dumps(backend))
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": TURNS}))
    tokenizer = Tokenizer.from_directory(path)
    assert tokenizer.end_ids == {tokenizer.eos_id, new}
    assert tiny.tokenizer().end_ids == {tiny.tokenizer().eos_id}
    # What the network has no place for can't come.
    assert new not in Engine(load_model(path), tokenizer).end_tokens


def test_a_gguf_file_may_name_three_ends() -> None:
    shape = {"block_count": 1, "embedding_length": 8, "feed_forward_length": 8, "context_length": 9,
             "attention.head_count": 1, "attention.layer_norm_rms_epsilon": 1e-5}  # fmt: skip
    fields: dict[str, Any] = {"general.architecture": "llama"} | {f"llama.{k}": v for k, v in shape.items()}
    cases = (({}, None), ({"eos": 2}, 2), ({"eos": 2, "eot": 3}, [2, 3]), ({"eos": 2, "eot": 2, "eom": 4}, [2, 4]))
    for ends, read in cases:
        named = {f"tokenizer.ggml.{name}_token_id": end for name, end in ends.items()}
        assert config_values(fields | named, {"token_embd.weight": (9, 8)}).get("eos_token_id") == read


def test_saving_keeps_the_generation_config_and_names_all_ends(tmp_path: Path) -> None:
    model = load_model(directory(tmp_path / "a", {"eos_token_id": [7], "temperature": 0.7, "top_k": 20}))
    save_model(model, tmp_path / "b")
    kept = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert kept == {"eos_token_id": [5, 7], "temperature": 0.7, "top_k": 20}
    save_model(tiny.network("llama"), tmp_path / "b")
    assert not (tmp_path / "b" / "generation_config.json").exists(), "another model's"


def test_a_gguf_file_says_how_it_is_sampled(tmp_path: Path) -> None:
    own = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.05}
    path = directory(tmp_path / "a", own | {"max_new_tokens": 9, "do_sample": True})
    export_model(str(path), None, tmp_path / "a.gguf")
    said = {name: value for name, value in GGUF(tmp_path / "a.gguf").fields.items() if ".sampling." in name}
    assert said == pytest.approx({
        "general.sampling.temp": 0.7, "general.sampling.top_k": 20, "general.sampling.top_p": 0.8,
        "general.sampling.min_p": 0.05, "general.sampling.penalty_repeat": 1.05,
    })  # fmt: skip
    assert load_model(tmp_path / "a.gguf").generation_config == own
    export_model(str(tmp_path / "a.gguf"), None, tmp_path / "b")
    assert SamplingDefaults.of(load_model(tmp_path / "b").generation_config) == SamplingDefaults(**own)
    export_model(str(directory(tmp_path / "c")), None, tmp_path / "c.gguf")
    assert load_model(tmp_path / "c.gguf").generation_config == {}


def test_the_defaults_are_those_of_the_file() -> None:
    given = {"temperature": 0.7, "top_k": 20, "top_p": None, "max_new_tokens": 9, "do_sample": True}
    defaults = SamplingDefaults.of(given)
    assert defaults.sampling() == Sampling(temperature=0.7, top_k=20, max_tokens=9)
    assert defaults.sampling(temperature=0.0, max_tokens=3, seed=4) == Sampling(0.0, 20, max_tokens=3, seed=4)
    assert str(defaults) == "temperature 0.7, top_k 20, max_new_tokens 9"
    assert SamplingDefaults.of({}).sampling() == Sampling() and str(SamplingDefaults()) == ""


@pytest.mark.parametrize(
    "wrong", [{"temperature": "hot"}, {"top_k": 1.5}, {"top_p": 2}, {"max_new_tokens": 0}, {"repetition_penalty": True}]
)
def test_defaults_that_make_no_sense_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"generation_config.json: .*" + next(iter(wrong)).replace("max_new", "max")):
        SamplingDefaults.of(wrong)


def test_ends_that_are_no_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"generation_config.json: eos_token_id"):
        load_model(directory(tmp_path, {"eos_token_id": ["</s>"]}))
