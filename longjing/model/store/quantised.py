"""Checkpoints quantised by others' tools, read as dense weights: GPTQ, AWQ, bitsandbytes, compressed-tensors, FP8.

A way of quantising stores a matrix as several tensors: small whole numbers, packed or not, their scales, and sometimes
zeros. Each way here says which tensors belong together, which shape they mean, and how to read them; what comes out
is one float32 matrix, read when it is asked for. Whatever isn't quantised is stored as always.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.model.store.fp8 import block_size, join_scales
from longjing.model.store.tensors import StoredTensor

Stored = dict[str, StoredTensor]
Reader = Callable[[], Tensor]
# What stands for a matrix: the tensors that are used up, its shape, and how to read it.
Joined = tuple[list[str], tuple[int, ...], Reader]

_AWQ_ORDER = [0, 4, 1, 5, 2, 6, 3, 7]  # where the number of each of eight columns lies in a packed one
_NF4_STATE = re.compile(r"\.quant_state\.bitsandbytes__(nf4|fp4)$")


def dense(stored: Stored, quantization: Mapping[str, Any] | None) -> Stored:
    """The tensors with those of a config's `quantization_config` joined to matrices.

    Raises UserError for a way of quantising that isn't read, by its name, and for tensors that don't fit together.
    """
    if quantization is None:
        return stored
    method = quantization.get("quant_method")
    if method == "fp8":
        return join_scales(stored, block_size(quantization))
    readers = {
        "gptq": _gptq, "awq": _awq, "bitsandbytes": _bitsandbytes, "compressed-tensors": _compressed_tensors,
    }  # fmt: skip
    if method not in readers:
        raise _refused(f"quant_method {method!r}")
    joined = dict(stored)
    for name, (parts, shape, read) in readers[str(method)](stored, quantization):
        file = stored[parts[0]].file
        for part in parts:
            joined.pop(part, None)
        joined[name] = StoredTensor(name, file, shape, "F32", partial(_read, f"{file}: {name}", shape, read))
    return joined


def _read(name: str, shape: tuple[int, ...], read: Reader) -> Tensor:
    try:
        return read().reshape(shape)
    except (RuntimeError, IndexError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{name}: its quantised numbers, scales and zeros don't fit together ({error})") from error


def _refused(what: str) -> UserError:
    return UserError(
        f"config.json: quantised with {what}, which is not read here; read are fp8 with a weight_block_size, gptq of 4 "
        "or 8 bits, awq of 4 bits (gemm), bitsandbytes of 8 bits, nf4 and fp4, and compressed-tensors that are "
        "pack-quantized, int-quantized, float-quantized or naive-quantized. Use this model's unquantised files"
    )


def _modules(stored: Stored, suffix: str) -> Iterator[str]:
    return (name.removesuffix(suffix) for name in stored if name.endswith(suffix))


def _part(stored: Stored, name: str) -> StoredTensor:
    if name not in stored:
        raise UserError(f"{next(iter(stored.values())).file.parent}: {name} is missing from the weights")
    return stored[name]


def _unpacked(packed: Tensor, bits: int, dim: int) -> Tensor:
    """The numbers in int32s, the lowest bits first, along `dim`, which grows to `32 / bits` times its length."""
    packed = packed.movedim(dim, -1)
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    numbers = (packed[..., None] >> shifts) & (2**bits - 1)
    return numbers.flatten(-2).movedim(-1, dim)


def _gptq(stored: Stored, quantization: Mapping[str, Any]) -> Iterator[tuple[str, Joined]]:
    """`qweight` `[in / 32 * bits, out]`, `qzeros` `[groups, out / 32 * bits]`, `scales` `[groups, out]`, and in `g_idx`
    `[in]` the group of each input, whatever their order. In the first format zeros are stored less one."""
    bits = quantization.get("bits")
    if bits not in (4, 8):
        raise _refused(f"gptq of {bits} bits")
    offset = 0 if quantization.get("checkpoint_format") == "gptq_v2" else 1
    for module in _modules(stored, ".qweight"):
        names = [f"{module}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx")]
        weight, zeros, scales = (_part(stored, name) for name in names[:3])
        shape = (weight.shape[1], weight.shape[0] * 32 // bits)
        groups = stored.get(names[3])
        yield f"{module}.weight", (names, shape, partial(_read_gptq, weight, zeros, scales, groups, bits, offset))


def _read_gptq(
    weight: StoredTensor, zeros: StoredTensor, scales: StoredTensor, groups: StoredTensor | None, bits: int, offset: int
) -> Tensor:
    numbers = _unpacked(weight.read(), bits, 0)
    zero = _unpacked(zeros.read(), bits, 1) + offset & 2**bits - 1
    scale = scales.read().float()
    group = _groups(len(numbers), len(scale), groups)
    return ((numbers - zero[group]) * scale[group]).T


def _groups(inputs: int, count: int, order: StoredTensor | None) -> Tensor:
    """The group of each input: as it is stored, or so many in a row."""
    if order is None and inputs % count:
        raise ValueError(f"{count} groups of {inputs} inputs")
    return torch.arange(inputs) * count // inputs if order is None else order.read().long()


def _awq(stored: Stored, quantization: Mapping[str, Any]) -> Iterator[tuple[str, Joined]]:
    """`qweight` `[in, out / 8]`, `qzeros` `[groups, out / 8]`, `scales` `[groups, out]`; eight columns in an order of
    their own."""
    bits, kind = quantization.get("bits", quantization.get("w_bit")), quantization.get("version", "gemm")
    if bits != 4 or str(kind).lower() != "gemm":
        raise _refused(f"awq of {bits} bits in the form {kind}")
    for module in _modules(stored, ".qweight"):
        names = [f"{module}.{part}" for part in ("qweight", "qzeros", "scales")]
        weight, zeros, scales = (_part(stored, name) for name in names)
        shape = (weight.shape[1] * 8, weight.shape[0])
        yield f"{module}.weight", (names, shape, partial(_read_awq, weight, zeros, scales))


def _read_awq(weight: StoredTensor, zeros: StoredTensor, scales: StoredTensor) -> Tensor:
    def columns(packed: Tensor) -> Tensor:
        return _unpacked(packed, 4, 1).unflatten(1, (-1, 8))[..., _AWQ_ORDER].flatten(1)

    numbers, scale = columns(weight.read()), scales.read().float()
    size = len(numbers) // len(scale)
    zero = columns(zeros.read()).repeat_interleave(size, 0)
    return ((numbers - zero) * scale.repeat_interleave(size, 0)).T


def _bitsandbytes(stored: Stored, quantization: Mapping[str, Any]) -> Iterator[tuple[str, Joined]]:
    """Of eight bits: an int8 `weight` and `SCB`, the largest of each row. Of four: a column of bytes, the largest of
    each block, which may be quantised itself, the values of the sixteen numbers, and what these mean as JSON."""
    for module in _modules(stored, ".SCB"):
        rows, scales = _part(stored, f"{module}.weight"), stored[f"{module}.SCB"]
        parts = [f"{module}.weight", f"{module}.SCB", f"{module}.weight_format"]
        yield f"{module}.weight", (parts, rows.shape, partial(_read_rows, rows, scales))
    for name in stored:
        if match := _NF4_STATE.search(name):
            weight = name[: match.start()]
            state = json.loads(bytes(stored[name].read().tolist()))
            parts = [weight, *(other for other in stored if other.startswith(f"{weight}."))]
            _part(stored, weight)
            yield weight, (parts, tuple(state["shape"]), partial(_read_four_bits, stored, weight, state))


def _read_rows(weight: StoredTensor, scales: StoredTensor) -> Tensor:
    return weight.read().float() * (scales.read().float() / 127)[:, None]


def _read_four_bits(stored: Stored, weight: str, state: Mapping[str, Any]) -> Tensor:
    packed = stored[weight].read().flatten()
    numbers = torch.stack((packed >> 4, packed & 15), dim=1).flatten()
    largest = _part(stored, f"{weight}.absmax").read()
    if (nested := stored.get(f"{weight}.nested_absmax")) is not None:
        values = _part(stored, f"{weight}.nested_quant_map").read()[largest.long()]
        scale = nested.read().repeat_interleave(state["nested_blocksize"])[: len(values)]
        largest = values * scale + state["nested_offset"]
    values = _part(stored, f"{weight}.quant_map").read()[numbers.long()]
    values = values * largest.float().repeat_interleave(state["blocksize"])[: len(values)]
    return values[: torch.Size(state["shape"]).numel()].view(state["shape"])


def _compressed_tensors(stored: Stored, quantization: Mapping[str, Any]) -> Iterator[tuple[str, Joined]]:
    """`weight_scale` `[out, groups]` (or one for each row, or one) times the whole numbers in `weight`, or in
    `weight_packed` (stored plus the half of their range), less `weight_zero_point`."""
    form = quantization.get("format")
    settings = [group.get("weights") or {} for group in quantization.get("config_groups", {}).values()]
    bits = {setting.get("num_bits", 8) for setting in settings}
    plain = form in ("int-quantized", "float-quantized", "naive-quantized") and bits == {8}
    if not plain and (form != "pack-quantized" or bits not in ({4}, {8})):
        raise _refused(f"compressed-tensors in the form {form}, of {', '.join(map(str, bits)) or 'unknown'} bits")
    if any(setting.get("strategy") == "block" for setting in settings):
        raise _refused("compressed-tensors in blocks")
    width = bits.pop()
    kinds = ["weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape"]
    for module in list(_modules(stored, ".weight_scale")):
        names = [f"{module}.{kind}" for kind in (*kinds, "input_scale", "input_zero_point", "output_scale")]
        parts = {kind: stored[f"{module}.{kind}"] for kind in kinds if f"{module}.{kind}" in stored}
        if "weight_packed" in parts:
            if "weight_shape" not in parts:
                raise UserError(f"{parts['weight_packed'].file}: {module}.weight_shape is missing from the weights")
            shape = tuple(parts["weight_shape"].read().tolist())
        else:
            shape = _part(stored, f"{module}.weight").shape
        used = [name for name in names if name in stored]
        yield f"{module}.weight", (used, shape, partial(_read_compressed, parts, shape, width))


def _read_compressed(parts: Mapping[str, StoredTensor], shape: tuple[int, int], bits: int) -> Tensor:
    packed = "weight_packed" in parts
    if packed:
        numbers = _unpacked(parts["weight_packed"].read(), bits, 1)[:, : shape[1]].float() - 2 ** (bits - 1)
    else:
        numbers = parts["weight"].read().float()
    scale = parts["weight_scale"].read().float()
    scale = scale.reshape(-1, 1) if scale.dim() < 2 else scale
    zero = torch.zeros_like(scale)
    if (stored := parts.get("weight_zero_point")) is not None:
        zero = stored.read()
        if packed and zero.dtype == torch.int32 and zero.shape[0] != scale.shape[0]:
            zero = _unpacked(zero, bits, 0)[: len(scale)].float() - 2 ** (bits - 1)
        zero = zero.float().reshape(scale.shape)
    group = _groups(shape[1], scale.shape[1], parts.get("weight_g_idx"))
    return (numbers - zero[:, group]) * scale[:, group]
