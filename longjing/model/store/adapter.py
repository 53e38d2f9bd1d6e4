"""LoRA adapters on disk in PEFT's form, which vLLM and TRL read, too: `adapter_config.json` and a safetensors file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from longjing.errors import UserError
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import EXPERTS, LoRAConfig, adapters, add_lora
from longjing.model.reward_model import RewardModel
from longjing.model.store.model_directory import CONFIG as MODEL_CONFIG
from longjing.model.store.model_directory import read_json, replacing_durably, write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GENERATION, _ENDS = "generation_config.json", "eos_token_id"  # an adapter may have taught other ends than its base's

_PREFIX = "base_model.model."
_SCORE = _PREFIX + "score.weight"
# What changes the computation, and the one value that is read.
_ONLY = {
    "peft_type": "LORA", "bias": "none", "fan_in_fan_out": False, "use_dora": False, "lora_bias": False,
    "rank_pattern": {}, "alpha_pattern": {}, "layers_to_transform": None, "layer_replication": None,
    "alora_invocation_tokens": None, "trainable_token_indices": None,
}  # fmt: skip


def base_of(directory: Path) -> str | None:
    """The name or path of the model that the adapter in this directory belongs to; None if what is there is no adapter,
    or a whole model.

    Where `save_adapter` has given it a name for others, it is the one that it was trained under. Raises UserError if
    the adapter doesn't say.
    """
    file = directory / CONFIG
    if not file.exists() or (directory / MODEL_CONFIG).exists():
        return None
    name = read_json(file).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{file} doesn't say whose adapter it is (base_model_name_or_path)")
    try:
        with safe_open(directory / WEIGHTS, "pt") as weights:
            return str((weights.metadata() or {}).get(name, name))
    except (OSError, SafetensorError):  # whoever loads it says so
        return name


def read_config(directory: Path) -> LoRAConfig:
    """The adapter's shape. Raises UserError for a kind of adapter that isn't read."""
    file = directory / CONFIG
    values = read_json(file)
    for name, only in _ONLY.items():
        if values.get(name, only) != only:
            raise UserError(f"{file}: {name} = {values[name]!r} is not supported, only {only!r}")
    rank, alpha, targets = values.get("r"), values.get("lora_alpha"), values.get("target_modules") or []
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise UserError(f"{file}: r = {rank!r} and lora_alpha = {alpha!r} are no rank and no scale")
    if values.get("use_rslora"):
        alpha = alpha * rank**0.5
    if not isinstance(targets, list):
        raise UserError(f"{file}: target_modules = {targets!r} is not supported, only a list of names")
    experts = ["experts"] if values.get("target_parameters") else []
    return LoRAConfig(rank, float(alpha), tuple(name.rpartition(".")[2] for name in targets) + tuple(experts))


def load_adapter(model: Decoder, directory: Path) -> None:
    """Put the adapter of a directory into the network.

    Raises UserError for files that are missing, broken, or an adapter of another network.
    """
    config, file = read_config(directory), directory / WEIGHTS
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: no whole safetensors file ({error}); copy or download it again") from None
    try:
        add_lora(model, config)
    except UserError as error:
        raise UserError(f"{directory}: an adapter of another network: {error}") from None
    factors = _factors(model)
    for name, tensor in factors.items():
        if name not in stored or stored[name].shape != _to_peft(name, tensor).shape:
            shape = list(stored[name].shape) if name in stored else "missing"
            expected = list(_to_peft(name, tensor).shape)
            raise UserError(f"{file}: an adapter of another network: {name} is {shape}, where {expected} is expected")
    if unknown := sorted(stored.keys() - factors.keys()):
        if _SCORE in unknown:
            raise UserError(f"{directory} is a reward model, which scores texts and writes none; give one that talks")
        raise UserError(f"{file}: {unknown[0]} has no place in this network")
    with torch.no_grad():
        for name, tensor in factors.items():
            tensor.copy_(_from_peft(name, stored[name], tensor.shape))
    if (generation := directory / GENERATION).exists() and (ends := read_json(generation).get(_ENDS)) is not None:
        model.config = replace(model.config, eos_token_id=tuple(ends) if isinstance(ends, list) else ends)


def save_adapter(model: Decoder, directory: Path, base: str, public_name: str | None = None) -> None:
    """Write the network's adapter into the directory. `base`: the name or path of the model that it belongs to;
    `public_name`: what other tools find that by, if it is another."""
    adapted = list(adapters(model))
    adapter = adapted[0][3]
    rank = adapter.a.shape[-2]
    names = sorted({name.rpartition(".")[2] for _, attribute, name, _ in adapted if attribute == "weight"})
    in_experts = any(attribute in EXPERTS for _, attribute, _, _ in adapted)
    scores = isinstance(model, RewardModel)
    values: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if scores else "CAUSAL_LM",
        "base_model_name_or_path": public_name or base,
        "r": rank,
        "lora_alpha": adapter.scale * rank,
        "lora_dropout": 0.0,
        "target_modules": names,
        "target_parameters": [f"mlp.experts.{part}" for part in EXPERTS] if in_experts else None,
        "modules_to_save": ["score"] if scores else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    tensors = {name: _to_peft(name, tensor).contiguous() for name, tensor in _factors(model).items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with replacing_durably(directory / WEIGHTS) as part:
            save_file(tensors, part, {"format": "pt"} | ({public_name: base} if public_name else {}))
        write_json(directory / GENERATION, {_ENDS: model.config.eos_token_id})
        write_json(directory / CONFIG, values)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory}: the adapter can't be written: {error}") from error


def _factors(model: Decoder) -> dict[str, Tensor]:
    """The network's factors under their names in files; with a reward model's head."""
    tensors: dict[str, Tensor] = {}
    for _, attribute, name, adapter in adapters(model):
        # PEFT wraps the experts twice, first for one matrix, then for the other.
        inner = ".base_layer" if attribute == EXPERTS[0] else ""
        tensors[f"{_PREFIX}model.{name}{inner}.lora_A.weight"] = adapter.a.detach()
        tensors[f"{_PREFIX}model.{name}{inner}.lora_B.weight"] = adapter.b.detach()
    if isinstance(model, RewardModel):
        tensors[_SCORE] = model.lm_head.weight.detach()
    return tensors


def _to_peft(name: str, factor: Tensor) -> Tensor:
    """A factor as PEFT lays it out: of a stack `a` `[count * rank, in]`, `b` `[out, rank * count]`."""
    if factor.dim() < 3:
        return factor
    return factor.flatten(0, 1) if "lora_A" in name else factor.permute(1, 2, 0).flatten(1)


def _from_peft(name: str, factor: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `_to_peft`; `shape`: the network's own."""
    if len(shape) < 3:
        return factor
    if "lora_A" in name:
        return factor.view(shape)
    count, rows, rank = shape
    return factor.view(rows, rank, count).permute(2, 0, 1)
