"""LoRA: what it computes, what it trains, and its files against `peft`."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from model_cases import batch, deepseek, dense, difference, network, qwen3_moe, twin
from torch import nn
from torch.nn import functional as F

from longjing.errors import UserError
from longjing.generation.native.engine import Engine
from longjing.generation.request import Request, Sampling
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import LoRAConfig, adapters, add_lora, merge_lora
from longjing.model.store.adapter import base_of, load_adapter, save_adapter

SHAPES = [deepseek(), deepseek(q_lora_rank=10), dense("llama"), dense("qwen2"), dense("qwen3", head_dim=8), qwen3_moe()]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape["model_type"])


def adapted(shape: dict[str, Any], **config: Any) -> Decoder:
    """A network whose adapter changes what it says."""
    model = network(shape)
    add_lora(model, LoRAConfig(**{"rank": 3, "alpha": 5.0} | config))
    generator = torch.Generator().manual_seed(2)
    for *_, adapter in adapters(model):
        adapter.b.data = 0.2 * torch.randn(adapter.b.shape, generator=generator)
    return model


def all_targets(shape: dict[str, Any]) -> tuple[str, ...]:
    model = network(shape)
    names = {name.rpartition(".")[2] for name, module in model.layers.named_modules() if isinstance(module, nn.Linear)}
    return (*sorted(names), *(["experts"] if next(model.routers(), None) else []))


@shapes
def test_at_first_nothing_changes_and_then_only_the_factors_do(shape: dict[str, Any]) -> None:
    model, tokens = network(shape), batch(network(shape))
    before, weights = model(tokens), {name: tensor.clone() for name, tensor in model.named_parameters()}
    add_lora(model, LoRAConfig(rank=2, alpha=4.0, targets=all_targets(shape)))
    assert torch.equal(model(tokens), before)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning and all(name.endswith((".a", ".b")) for name in learning)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    now = {name.replace(".base", ""): tensor for name, tensor in model.named_parameters() if name not in learning}
    assert all(torch.equal(tensor, weights[name.removesuffix(".weight.weight")]) for name, tensor in now.items())


@shapes
@torch.no_grad()
def test_a_merged_adapter_computes_the_same_and_so_does_decoding(shape: dict[str, Any]) -> None:
    model, tokens = adapted(shape, targets=all_targets(shape)), batch(network(shape))
    assert difference(model(tokens), network(shape)(tokens)) > 0.1
    want = model(tokens)
    requests = [Request([3, 1, 4, 1 + i], Sampling(temperature=0.0, max_tokens=9)) for i in range(3)]
    texts = [generation.tokens for generation in Engine(model, None).generate(requests)]
    merge_lora(model)
    assert not list(adapters(model)) and difference(model(tokens), want) < 1e-5
    assert [generation.tokens for generation in Engine(model, None).generate(requests)] == texts


@pytest.mark.parametrize("shape", [dense("llama"), dense("qwen2"), deepseek(num_nextn_predict_layers=0), qwen3_moe()])
@pytest.mark.parametrize("everything", [False, True])
@torch.no_grad()
def test_peft_reads_our_files_and_we_read_its(shape: dict[str, Any], everything: bool, tmp_path: Path) -> None:
    mixture = next(network(shape).routers(), None) is not None
    attention = {"q_proj", "k_proj", "v_proj", "o_proj", "kv_a_proj_with_mqa", "kv_b_proj"} & set(all_targets(shape))
    targets = (*attention, "experts") if mixture else all_targets(shape)
    model = adapted(shape, targets=targets if everything else ())
    tokens = batch(model)
    base = twin(network(shape), tmp_path / "base")
    save_adapter(model, tmp_path / "ours", str(tmp_path / "base"))
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours")
    assert difference(theirs(tokens).logits, model(tokens)) < 5e-5
    theirs.save_pretrained(tmp_path / "theirs")
    again = network(shape)
    load_adapter(again, tmp_path / "theirs")
    assert torch.equal(again(tokens), model(tokens))
    assert base_of(tmp_path / "theirs") == str(tmp_path / "base") and base_of(tmp_path / "base") is None


@torch.no_grad()
def test_an_adapter_that_peft_made_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = twin(network(dense("llama")), tmp_path / "base")
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", use_rslora=True, task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(base, config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.normal_(0, 0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    model, tokens = network(dense("llama")), batch(network(dense("llama")))
    load_adapter(model, tmp_path / "adapter")
    assert difference(model(tokens), theirs(tokens).logits) < 5e-5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"peft_type": "IA3"}, "peft_type = 'IA3'"),
        ({"r": 0}, "no rank"),
        ({"r": 7}, "an adapter of another network"),
        ({"target_modules": ["c_attn"]}, "an adapter of another network.*c_attn"),
        ({"target_modules": ["q_proj"]}, "has no place in this network"),
        ({"target_modules": "all"}, "only a list"),
    ],
)
def test_what_is_no_adapter_of_the_network_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    save_adapter(adapted(dense("llama")), tmp_path, "base")
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError, match=words):
        load_adapter(network(dense("llama")), tmp_path)


def test_a_broken_or_missing_adapter_file_is_named(tmp_path: Path) -> None:
    save_adapter(adapted(dense("llama")), tmp_path, "base")
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(UserError, match="adapter_model.safetensors.*no whole safetensors file"):
        load_adapter(network(dense("llama")), tmp_path)
    with pytest.raises(UserError, match="another network"):
        save_adapter(adapted(dense("llama")), tmp_path, "base")
        load_adapter(network(dense("llama", hidden_size=16)), tmp_path)


def test_unknown_targets_and_second_adapters_are_refused() -> None:
    model = network(dense("llama"))
    with pytest.raises(UserError, match="no kv_b_proj to adapt; it has down_proj"):
        add_lora(model, LoRAConfig(targets=("kv_b_proj",)))
    add_lora(model, LoRAConfig())
    with pytest.raises(UserError, match="an adapter already"):
        add_lora(model, LoRAConfig())
