"""Models in GGUF files, read and written: the tensors under the names and in the shapes of a Hugging Face directory."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.gguf import GGUF, GGUFTensor
from longjing.model.families.gguf import EXPERTS, config_values, llama3_rope, our_name, rotates_in_pairs  # fmt: skip
from longjing.model.store.block_formats import dequantise
from longjing.model.store.tensors import StoredTensor

_ROPE_FREQUENCIES = "rope_freqs.weight"


def open_gguf(path: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """What the `config.json` of the network in a file would hold, and its tensors. Nothing is read but the file's head.

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
    return values, stored


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
