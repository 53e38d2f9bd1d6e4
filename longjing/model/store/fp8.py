"""DeepSeek's FP8 weights: e4m3 numbers with one float32 scale for each block (DeepSeek-V3, section 3.3)."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from longjing.errors import UserError
from longjing.model.store.tensors import FLOATS, StoredTensor

_SCALE = "_scale_inv"
_SCALES = (*FLOATS, "F8_E8M0")  # the last: V3.1's powers of two (ue8m0)


def block_size(quantization: Mapping[str, Any]) -> tuple[int, int]:
    """The `(rows, columns)` that share a scale, from a config's `quantization_config`. Raises UserError."""
    match quantization.get("weight_block_size"):
        case [int(rows), int(columns)] if min(rows, columns) > 0:
            return rows, columns
    raise UserError(
        f"config.json: quantization_config {quantization} is not supported, only quant_method 'fp8' with a "
        "weight_block_size such as [128, 128]; use this model's unquantised files"
    )


def dequantise(weight: Tensor, scale_inv: Tensor, block: tuple[int, int]) -> Tensor:
    """`weight` `[rows, columns]` e4m3 times `scale_inv` `[row blocks, column blocks]`, in float32.

    (`weight_scale_inv` is the inverse of the scale that quantised, so it multiplies.)
    """
    out, scale_inv, (rows, columns) = weight.float(), scale_inv.float(), block
    for index, scales in enumerate(scale_inv):
        out[index * rows : (index + 1) * rows] *= scales.repeat_interleave(columns)[: out.shape[1]]
    return out


def join_scales(stored: dict[str, StoredTensor], block: tuple[int, int]) -> dict[str, StoredTensor]:
    """The stored tensors, those in FP8 joined with their scales. Raises UserError for scales of another shape."""
    joined = dict(stored)
    for name, weight in stored.items():
        scales = stored.get(name + _SCALE)
        if weight.dtype != "F8_E4M3" or scales is None:
            continue
        # The last block may be partial.
        blocks = tuple(-(-size // side) for size, side in zip(weight.shape, block, strict=True))
        if scales.dtype not in _SCALES or scales.shape != blocks:
            kind = f"{scales.dtype} {list(scales.shape)}"
            raise UserError(f"{scales.file}: {scales.name} is {kind}, not one float for each block")
        joined[name] = replace(weight, dtype="F32", read=partial(_read, weight, scales, block))
        del joined[scales.name]
    return joined


def _read(weight: StoredTensor, scales: StoredTensor, block: tuple[int, int]) -> Tensor:
    return dequantise(weight.read(), scales.read(), block)
