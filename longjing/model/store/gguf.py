"""Models in GGUF files, read and written: the tensors under the names and in the shapes of a Hugging Face directory."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.files import disk_errors, replacing
from longjing.gguf import FORMATS, GGUF, GGUFTensor, NumberFormat, write_gguf
from longjing.model.decoder import Decoder
from longjing.model.families import family_of
from longjing.model.families.gguf import (
    EXPERTS,
    config_values,
    fields,
    generation_values,
    llama3_factors,
    llama3_rope,
    our_name,
    rotates_in_pairs,
    their_name,
)  # fmt: skip
from longjing.model.store.block_formats import dequantise, quantise
from longjing.model.store.tensors import StoredTensor

# The formats that are written, and llama.cpp's number for a file that is mostly in one.
WRITABLE = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3}

_ROPE_FREQUENCIES = "rope_freqs.weight"


def open_gguf(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, StoredTensor]]:
    """What the `config.json` of the network in a file would hold, and its `generation_config.json`, and its tensors.
    Nothing is read but the file's head.

    Raises UserError, naming the file, for one that isn't whole, or holds a network or a number format that isn't read.
    """
    file = GGUF(path)
    sizes = {name: tensor.shape for name, tensor in file.tensors.items()}
    try:
        values = config_values(file.fields, sizes)
        if _ROPE_FREQUENCIES in file.tensors:
            factors = _numbers(file.tensors[_ROPE_FREQUENCIES]).tolist()
            values["rope_parameters"] = llama3_rope(values["rope_parameters"], factors)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (TypeError, KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: its fields don't describe a network: {error!r}") from error
    stored: dict[str, StoredTensor] = {}
    for tensor in file.tensors.values():
        if tensor.name != _ROPE_FREQUENCIES:
            stored |= {entry.name: entry for entry in _stored(file, tensor, values)}
    return values, generation_values(file.fields), stored


def _stored(file: GGUF, tensor: GGUFTensor, values: Mapping[str, Any]) -> Iterator[StoredTensor]:
    """What one tensor of a file is here: one, or one for each expert, or one together with another of the file."""

    def entry(name: str, shape: tuple[int, ...], read: Any) -> StoredTensor:
        return StoredTensor(name, file.path, shape, "F32", read)

    if match := EXPERTS.fullmatch(tensor.name):
        layer, part = match.groups()
        size = len(tensor.data) // tensor.shape[0]
        for expert in range(tensor.shape[0]):
            data = tensor.data[expert * size : (expert + 1) * size]
            one = GGUFTensor(tensor.name, tensor.shape[1:], tensor.format, data)
            name = f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
            yield entry(name, one.shape, partial(_read, one))
    elif tensor.name.endswith(".attn_k_b.weight"):
        values_half = file.tensors.get(tensor.name.replace("attn_k_b", "attn_v_b"))
        if values_half is None:
            raise UserError(f"{file.path}: {tensor.name} has no attn_v_b beside it")
        heads, rank, nope = tensor.shape
        rows = heads * (nope + values_half.shape[1])
        whole = our_name(tensor.name.replace("attn_k_b", "attn_kv_b")) or ""
        yield entry(whole, (rows, rank), partial(_read_halves, tensor, values_half))
    elif not tensor.name.endswith(".attn_v_b.weight"):
        ours = our_name(tensor.name)
        if ours is None:
            raise UserError(f"{file.path}: {tensor.name} has no place in a {values['model_type']} model")
        if rotates_in_pairs(file.fields["general.architecture"], ours):
            queries = ".q_proj." in ours
            heads = values["num_attention_heads" if queries else "num_key_value_heads"]
            yield entry(ours, tensor.shape, partial(_read_rotating, tensor, heads))
        else:
            yield entry(ours, tensor.shape, partial(_read, tensor))


def _numbers(tensor: GGUFTensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    return dequantise(tensor.data, tensor.format.name).reshape(tensor.shape)


def _read(tensor: GGUFTensor) -> Tensor:
    return torch.from_numpy(_numbers(tensor))


def _read_halves(keys: GGUFTensor, values: GGUFTensor) -> Tensor:
    """`kv_b_proj` `[heads * (nope + value), rank]` of keys `[heads, rank, nope]` and values `[heads, value, rank]`."""
    return torch.cat((_read(keys).transpose(1, 2), _read(values)), dim=1).flatten(0, 1)


def _read_rotating(tensor: GGUFTensor, heads: int) -> Tensor:
    """The rows of each head, of which neighbours rotate together, as two halves that do."""
    return _read(tensor).unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def _rotating_in_pairs(tensor: Tensor, heads: int) -> Tensor:
    """The inverse of `_read_rotating`."""
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def write_model(model: Decoder, file: Path, name: str, others: Mapping[str, Any]) -> None:
    """Write the model as a GGUF file, whole or not at all, with matrices in the number format called `name`: F32, F16,
    BF16, Q8_0, Q4_0 or Q4_1. `others`: fields beside the network's, the tokenizer's (`text.gguf.tokenizer_fields`) say.

    As in llama.cpp, vectors and routers stay in float32, and so do matrices whose rows are no whole blocks.
    Raises UserError for a network or a format that can't be written, and if the disk refuses.
    """
    if name not in WRITABLE:
        raise UserError(f"{name!r} can't be written; known: {', '.join(WRITABLE)}")
    head = {**fields(model.config), "general.file_type": WRITABLE[name], "general.quantization_version": 2, **others}
    parts = dict(_written(model, head["general.architecture"]))
    formats = {key: _format(key, parts[key][0], name) for key in parts}
    shapes = {key: (shape, formats[key]) for key, (shape, _) in parts.items()}
    contents = (quantise(read().float().numpy(), formats[key].name) for key, (_, read) in parts.items())
    with disk_errors(file), replacing(file) as part, part.open("wb") as stream:
        write_gguf(stream, head, shapes, contents)


def _format(key: str, shape: tuple[int, ...], name: str) -> NumberFormat:
    plain = len(shape) == 1 or key.endswith("ffn_gate_inp.weight") or shape[-1] % FORMATS[name].count
    return FORMATS["F32" if plain else name]


Part = tuple[tuple[int, ...], Callable[[], Tensor]]


def _written(model: Decoder, architecture: str) -> Iterator[tuple[str, Part]]:
    """Every tensor of a file: its name, its shape, and how to get it."""
    config = model.config
    views = {key: view.detach() for key, view in family_of(config.model_type).tensors(model).items()}
    experts: dict[str, list[Tensor]] = {}
    for ours, view in views.items():
        if match := re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.\d+\.(\w+)_proj\.weight", ours):
            experts.setdefault("blk.{}.ffn_{}_exps.weight".format(*match.groups()), []).append(view)
        elif ours.endswith("kv_b_proj.weight"):
            halves = view.unflatten(0, (config.num_attention_heads, -1)).split(
                (config.qk_nope_head_dim, config.v_head_dim), dim=1
            )
            key = their_name(ours)
            yield key.replace("kv_b", "k_b"), _part(halves[0].transpose(1, 2))
            yield key.replace("kv_b", "v_b"), _part(halves[1])
        elif rotates_in_pairs(architecture, ours):
            heads = config.num_attention_heads if ".q_proj." in ours else config.num_key_value_heads
            yield their_name(ours), (tuple(view.shape), partial(_rotating_in_pairs, view, heads))
        else:
            yield their_name(ours), _part(view)
    for key, stack in experts.items():
        yield key, ((len(stack), *stack[0].shape), partial(torch.stack, stack))
    if config.rope["rope_type"] == "llama3":
        yield _ROPE_FREQUENCIES, _part(torch.tensor(llama3_factors(config.rope, config.rotary_dim // 2)))


def _part(tensor: Tensor) -> Part:
    return tuple(tensor.shape), lambda: tensor
