"""Reading and writing model directories, whole and broken ones."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import batch, deepseek, dense, difference, network, twin
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, FineGrainedFP8Config
from transformers.modeling_layers import MtpModel

import longjing
from longjing.errors import UserError
from longjing.model.decoder import Decoder
from longjing.model.device import choose_device, choose_dtype
from longjing.model.store import safetensors as files
from longjing.model.store.checkpoint import load_model, save_model
from longjing.model.store.fp8 import dequantise
from longjing.model.store.stored_dtype import suitable_dtype
from longjing.text.tokenizer import Tokenizer

KINDS = [
    deepseek(q_lora_rank=10, num_nextn_predict_layers=2), deepseek(tie_word_embeddings=True),
    deepseek(n_routed_experts=0, n_shared_experts=0, num_experts_per_tok=0, first_k_dense_replace=0),
    dense("qwen2", tie_word_embeddings=True), dense("llama", mlp_bias=True, attention_bias=True),
]  # fmt: skip


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the values of a JSON file or the tensors of a safetensors file."""
    if file.suffix == ".json":
        values = json.loads(file.read_text())
        change(values)
        file.write_text(json.dumps(values))
    else:
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, {"format": "pt"})


def names(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


def assert_same(a: Decoder, b: Decoder) -> None:
    assert a.config == b.config
    for kind in ("named_parameters", "named_buffers"):  # buffers: those too that no file holds
        first, second = dict(getattr(a, kind)()), dict(getattr(b, kind)())
        assert first.keys() == second.keys()
        for name in first:
            assert torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype, name


@pytest.mark.parametrize("shape", KINDS)
@pytest.mark.parametrize("most", [10**9, 9000])
def test_a_round_trip_keeps_every_bit(shape: dict[str, Any], most: int, tmp_path: Path) -> None:
    model = network(shape)
    save_model(model, tmp_path, max_shard_bytes=most)
    loaded = load_model(tmp_path)
    assert_same(model, loaded)
    assert not loaded.training
    assert (loaded.lm_head.weight is loaded.embed_tokens.weight) is model.config.tie_word_embeddings
    shards = [file for file in tmp_path.glob("*.safetensors") if file.name != "mtp.safetensors"]
    assert (len(shards) > 1) is (most == 9000)
    twin_report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)[1]
    assert not any(twin_report.values())


def test_saving_again_leaves_nothing_of_the_earlier_save(tmp_path: Path) -> None:
    first, second = network(deepseek()), network(deepseek(num_nextn_predict_layers=0), seed=1)
    save_model(first, tmp_path, max_shard_bytes=9000)
    (tmp_path / "tokenizer.json").write_text("kept")
    save_model(second, tmp_path)
    assert names(tmp_path) == {"config.json", "model.safetensors", "tokenizer.json"}
    assert_same(second, load_model(tmp_path))
    save_model(first, tmp_path, max_shard_bytes=9000)
    assert "model.safetensors" not in names(tmp_path)
    assert_same(first, load_model(tmp_path))


def test_whoever_may_read_one_file_may_read_all(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    save_model(network(deepseek()), tmp_path / "model")
    modes = {file.stat().st_mode for file in (tmp_path / "model").iterdir()}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}


def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(dense("llama"))
    save_model(model, tmp_path)

    def half_a_file(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "save_file", half_a_file)
    with pytest.raises(UserError, match="No space left"):
        save_model(network(dense("llama"), seed=1), tmp_path)
    assert names(tmp_path) == {"config.json", "model.safetensors"}
    assert_same(model, load_model(tmp_path))


def test_bfloat16_halves_the_file_and_router_biases_stay_float32(tmp_path: Path) -> None:
    model = network(deepseek())
    save_model(model, tmp_path / "whole")
    save_model(model, tmp_path / "half", dtype=torch.bfloat16)
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    half = load_model(tmp_path / "half")
    assert half.embed_tokens.weight.dtype == torch.float32
    assert torch.equal(half.embed_tokens.weight, model.embed_tokens.weight.bfloat16().float())
    low = load_model(tmp_path / "half", dtype=torch.bfloat16)
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}
    for loaded in (half, low):
        for mine, original in zip(loaded.routers(), model.routers(), strict=True):
            assert torch.equal(mine.e_score_correction_bias, original.e_score_correction_bias)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "half").dtype == torch.bfloat16


def test_the_mtp_modules_of_a_model_as_deep_as_v3_lie_where_transformers_finds_them(tmp_path: Path) -> None:
    model = network(deepseek(num_hidden_layers=61, hidden_size=16, n_routed_experts=2, num_experts_per_tok=1))
    theirs = MtpModel.from_pretrained(twin(model, tmp_path))
    assert "mtp.safetensors" not in names(tmp_path)
    mine = model.mtp[0].block.mlp.experts.gate_up_proj
    assert torch.equal(theirs.layers[0].mtp_block.mlp.experts.gate_up_proj, mine)
    assert_same(model, load_model(tmp_path))


def deepseeks_layout(directory: Path) -> None:
    """MTP as DeepSeek ships it: among the other weights, with copies of embedding and head."""
    mtp = load_file(directory / "mtp.safetensors")

    def add(tensors: dict[str, Tensor]) -> None:
        tensors.update(mtp)
        tensors["model.layers.2.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
        head = tensors.get("lm_head.weight", tensors["model.embed_tokens.weight"])
        tensors["model.layers.2.shared_head.head.weight"] = head.clone()

    edit(directory / "model.safetensors", add)
    (directory / "mtp.safetensors").unlink()


@pytest.mark.parametrize("tied", [False, True])
def test_deepseeks_own_layout_of_mtp_loads(tied: bool, tmp_path: Path) -> None:
    model = network(deepseek(tie_word_embeddings=tied))
    save_model(model, tmp_path)
    deepseeks_layout(tmp_path)
    assert_same(model, load_model(tmp_path))
    edit(tmp_path / "model.safetensors", lambda t: t["model.layers.2.shared_head.head.weight"].add_(1))
    with pytest.raises(UserError, match=r"model.safetensors: model.layers.2.shared_head.head.weight differs"):
        load_model(tmp_path)


def test_promised_mtp_modules_may_be_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network(deepseek())
    save_model(model, tmp_path)
    (tmp_path / "mtp.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        loaded = load_model(tmp_path)
    assert "MTP" in caplog.text
    assert loaded.config.num_nextn_predict_layers == 0
    assert difference(loaded(batch(model)), model(batch(model))) == 0


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path: Path) -> None:
    model = network(dense("qwen2", tie_word_embeddings=True))
    save_model(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    edit(weights, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert_same(model, load_model(tmp_path))
    edit(weights, lambda t: t["lm_head.weight"].add_(1))
    with pytest.raises(UserError, match="lm_head.weight differs"):
        load_model(tmp_path)


# FP8


def quantise(weight: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Blocks scaled to e4m3's largest number, one block after the other."""
    scales = torch.empty(-(-weight.shape[0] // rows), -(-weight.shape[1] // columns))
    out = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            block = (slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns))
            scales[i, j] = weight[block].abs().max() / 448
            out[block] = (weight[block] / scales[i, j]).to(torch.float8_e4m3fn)
    return out, scales


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(1, 8))
def test_dequantising_multiplies_each_block_partial_ones_too(r: int, c: int, rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(r * 100 + c)
    weight, scales = quantise(torch.randn(r, c, generator=generator), rows, columns)
    expected = torch.empty(r, c)
    for i in range(r):
        for j in range(c):
            expected[i, j] = weight[i, j].float() * scales[i // rows, j // columns]
    assert torch.equal(dequantise(weight, scales, (rows, columns)), expected)


def in_fp8(directory: Path, rows: int, columns: int) -> None:
    """Quantise a saved model as DeepSeek does: the projections, but not router, norms, embedding and head."""

    def convert(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.endswith("_proj.weight") or "_mqa.weight" in name]:
            tensors[name], tensors[f"{name}_scale_inv"] = quantise(tensors[name], rows, columns)

    edit(directory / "model.safetensors", convert)
    setting = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [rows, columns]}
    edit(directory / "config.json", lambda values: values.update(quantization_config=setting))


def test_fp8_files_load_dequantised(tmp_path: Path) -> None:
    model = network(deepseek(q_lora_rank=10))
    save_model(model, tmp_path)
    deepseeks_layout(tmp_path)
    in_fp8(tmp_path, 16, 8)
    loaded = load_model(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.experts.3.up_proj.weight"  # 12 rows: less than a block
    expected = dequantise(stored[name], stored[f"{name}_scale_inv"], (16, 8))
    assert torch.equal(loaded.layers[1].mlp.experts.gate_up_proj[3, 12:], expected)
    for (key, a), b in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert difference(a, b) <= 0.07 * a.abs().max(), key
    tokens = batch(model)
    assert torch.cosine_similarity(loaded(tokens), model(tokens), dim=-1).mean() > 0.9


def test_fp8_files_load_as_in_transformers(tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="transformers reads FP8 with accelerate only")
    sizes = {"kv_lora_rank": 12, "qk_rope_head_dim": 4, "q_lora_rank": 16, "moe_intermediate_size": 16}
    model = network(deepseek(hidden_size=32, intermediate_size=48, v_head_dim=8, vocab_size=64, **sizes))
    save_model(model, tmp_path)
    in_fp8(tmp_path, 4, 4)
    edit(tmp_path / "config.json", lambda values: values.update(num_nextn_predict_layers=0))
    (tmp_path / "mtp.safetensors").unlink()
    dequantised = FineGrainedFP8Config(weight_block_size=(4, 4), dequantize=True)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=dequantised, dtype=torch.float32)
    tokens = batch(model)
    assert difference(load_model(tmp_path)(tokens), theirs(tokens).logits) < 5e-5


# Broken and foreign directories


def drop(file: str) -> Callable[[Path], object]:
    return lambda directory: (directory / file).unlink()


def change(file: str, how: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    return lambda directory: edit(directory / file, how)


def truncate(file: str, size: int) -> Callable[[Path], object]:
    return lambda directory: (directory / file).write_bytes((directory / file).read_bytes()[:size])


def pickled(directory: Path) -> None:
    for file in directory.glob("model*"):
        file.unlink()
    (directory / "pytorch_model.bin").write_bytes(b"\x80")


def setting(**values: object) -> Callable[[Path], object]:
    return change("config.json", lambda config: config.update(values))


SHARD, NORM, UP = "model-00002-of-00004.safetensors", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
CONFIG, WHOLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ONE = {
    "no config": (drop(CONFIG), r"config\.json is missing"),
    "config not JSON": (truncate(CONFIG, 40), r"config\.json is not JSON"),
    "config a list": (lambda d: (d / CONFIG).write_text("[]"), r"config\.json: expected an object"),
    "another kind": (setting(model_type="gpt2"), r"config\.json: model_type 'gpt2'"),
    "a word for a size": (setting(hidden_size="big"), r"config\.json: hidden_size = 'big'"),
    "a negative size": (setting(hidden_size=-4), r"config\.json: hidden_size = -4"),
    "no heads": (setting(num_key_value_heads=0), r"config\.json doesn't describe"),
    "GPTQ": (setting(quantization_config={"quant_method": "gptq"}), "quantised with gptq of None bits"),
    "FP8 in one block": (setting(quantization_config={"quant_method": "fp8"}), "quantization_config .*fp8"),
    "no weights": (drop(WHOLE), r"model\.safetensors is missing"),
    "a pickle": (pickled, r"pickle \(pytorch_model\.bin\)"),
    "a pickle, no config": (lambda d: (pickled(d), drop(CONFIG)(d)), r"pickle \(pytorch_model\.bin\)"),
    "header cut": (truncate(WHOLE, 30), r"model\.safetensors: not a whole"),
    "tensors cut": (truncate(WHOLE, 9000), r"model\.safetensors: not a whole"),
    "empty": (truncate(WHOLE, 0), r"model\.safetensors: not a whole"),
    "a tensor less": (change(WHOLE, lambda t: t.pop(NORM)), rf"{NORM} is missing"),
    "a tensor more": (change(WHOLE, lambda t: t.update(x=torch.ones(1))), r"\.safetensors: x has no place"),
    "a layer less": (setting(num_hidden_layers=3), r"layers\.2\..* is missing"),
    "a layer more": (setting(num_hidden_layers=1), r"layers\.1\..* has no place"),
    "wrong shape": (
        change(WHOLE, lambda t: t.update({NORM: torch.ones(31)})),
        rf"model\.safetensors: {NORM} has shape \[31\], config\.json means \[32\]",
    ),
    "integers": (change(WHOLE, lambda t: t.update({UP: t[UP].to(torch.int8)})), rf"{UP} .* I8"),
    "FP8 alone": (change(WHOLE, lambda t: t.update({UP: t[UP].to(torch.float8_e4m3fn)})), rf"{UP} .* F8"),
}  # fmt: skip
SHARDED = {
    "a shard less": (drop(SHARD), rf"{SHARD} is missing"),
    "a shard cut": (truncate(SHARD, 900), rf"{SHARD}: not a whole"),
    "a shard with less": (change(SHARD, lambda t: t.popitem()), rf"{SHARD}: model\.\S+ is not in it"),
    "index not JSON": (truncate(INDEX, 50), r"index\.json is not JSON"),
    "index to elsewhere": (
        change(INDEX, lambda v: v["weight_map"].update(x="../x.safetensors")), r"index\.json: weight_map",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_model(network(dense("llama")), directory / "one")
    save_model(network(dense("llama")), directory / "sharded", max_shard_bytes=20_000)
    return directory


@pytest.mark.parametrize("name", [*ONE, *SHARDED])
def test_a_broken_directory_is_refused_by_file_and_key(name: str, whole: Path, tmp_path: Path) -> None:
    damage, words = (ONE | SHARDED)[name]
    shutil.copytree(whole / ("one" if name in ONE else "sharded"), tmp_path / "model")
    load_model(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(UserError, match=words) as caught:
        load_model(tmp_path / "model")
    assert str(tmp_path / "model") in str(caught.value)


# Loading by name


def test_load_gives_a_model_and_its_tokenizer(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["one and one is two"] * 4, 300)
    model = network(dense("qwen2", vocab_size=tokenizer.vocab_size))
    save_model(model, tmp_path)
    tokenizer.save(tmp_path)
    loaded, text = longjing.load(tmp_path, dtype="bfloat16")
    tokens = torch.tensor([text.encode("one is two")])
    assert loaded(tokens).shape == (1, tokens.shape[1], tokenizer.vocab_size)
    assert loaded(tokens).dtype == torch.bfloat16
    assert_same(model, longjing.load(str(tmp_path))[0])


def test_importing_the_package_does_not_import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import longjing, sys; assert 'torch' not in sys.modules"], check=True)


# Devices and number formats


def test_devices_and_formats_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    cpu = choose_device("cpu")
    assert choose_device("auto") == cpu == torch.device("cpu")
    for name, words in {"cuda": "usable: cpu", "mps": "usable: cpu", "tpu": "auto, cpu", "cpu:1": "auto"}.items():
        with pytest.raises(UserError, match=words):
            choose_device(name)
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    with pytest.raises(UserError, match="float32, bfloat16"):
        choose_dtype("float8", cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    assert choose_device("auto").type == "cuda" and choose_device("cuda:1").index == 1
    with pytest.raises(UserError, match="2 CUDA"):
        choose_device("cuda:2")
    with pytest.raises(UserError, match="an old card"):
        choose_dtype("bfloat16", torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("shape", KINDS)
@torch.no_grad()
def test_a_model_on_the_gpu_computes_what_it_does_on_the_cpu(shape: dict[str, Any], tmp_path: Path) -> None:
    model = network(shape, bias=0.0)
    save_model(model, tmp_path / "cpu")
    there = load_model(tmp_path / "cpu", "cuda")
    tokens = batch(model)
    assert difference(there(tokens.cuda()).cpu(), model(tokens)) < 1e-3
    half = load_model(tmp_path / "cpu", "cuda", torch.bfloat16)
    agreement = torch.cosine_similarity(half(tokens.cuda()).cpu().float(), model(tokens), dim=-1)
    assert agreement.mean() > 0.98
    save_model(there, tmp_path / "cuda")
    assert_same(model, load_model(tmp_path / "cuda"))


@pytest.mark.parametrize(
    ("stored", "fast", "wanted"),
    [
        (torch.bfloat16, True, torch.bfloat16),
        (torch.bfloat16, False, torch.float32),
        (torch.float32, True, torch.float32),
        (torch.float16, True, torch.float32),
    ],
)
def test_files_of_bfloat16_are_computed_in_it_where_that_is_fast(
    stored: torch.dtype, fast: bool, wanted: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longjing.model.store.stored_dtype.computes_in_bfloat16", lambda device: fast)
    tokenizer = Tokenizer.train(["one and one is two"] * 4, 300)
    save_model(network(dense("llama", vocab_size=tokenizer.vocab_size)), tmp_path, stored)
    tokenizer.save(tmp_path)
    cpu = torch.device("cpu")
    assert suitable_dtype(tmp_path, cpu) == torch.float32, "a small one gains nothing"
    monkeypatch.setattr("longjing.model.store.stored_dtype.SMALL", 10)
    assert suitable_dtype(tmp_path, cpu) == wanted
    assert longjing.load(tmp_path, dtype="auto")[0].embed_tokens.weight.dtype == wanted
    assert longjing.load(tmp_path)[0].embed_tokens.weight.dtype == torch.float32
