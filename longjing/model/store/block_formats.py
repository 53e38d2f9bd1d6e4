"""The number formats of GGUF: blocks of small whole numbers with a scale, to float32 and back.

The layouts are ggml's (ggml/src/ggml-common.h and ggml-quants.c). A block of 32 has a float16 scale `d`, and for the
kinds ending in 1 a float16 minimum `m`. A block of 256 (the K formats) has scales of its parts, which are whole numbers
themselves, behind one or two float16 factors.

Functions here take and give `[blocks, ...]`: the bytes of blocks, or their numbers.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from longjing.gguf import FORMATS

Array = np.ndarray[Any, np.dtype[Any]]

_PIECE = 1 << 12  # blocks that are read at a time, so that what is between stays in the cache


def dequantise(data: Array, name: str) -> Array:
    """The numbers that `data`, bytes of whole blocks, holds in the format called `name`: float32 `[numbers]`."""
    if name in _PLAIN:
        return data.view(_PLAIN[name]).astype(np.float32)
    if name == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)
    form = FORMATS[name]
    blocks = data.reshape(-1, form.size)
    out = np.empty((len(blocks), form.count), np.float32)
    for start in range(0, len(blocks), _PIECE):
        out[start : start + _PIECE] = _READERS[name](blocks[start : start + _PIECE]).reshape(-1, form.count)
    return out.reshape(-1)


def _half(data: Array) -> Array:
    """Float16 `[blocks, n]` of bytes `[blocks, 2n]`, as float32."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def _nibbles(data: Array) -> Array:
    """Low halves of all bytes, then their high halves: `[blocks, n]` -> `[blocks, 2n]`, int8."""
    return np.concatenate((data & 15, data >> 4), axis=-1).astype(np.int8)


def _fifth_bits(data: Array) -> Array:
    """The bits of four bytes, the lowest first: `[blocks, 4]` -> `[blocks, 32]`."""
    return np.unpackbits(np.ascontiguousarray(data), axis=-1, bitorder="little").astype(np.int8)


def _q4_0(blocks: Array) -> Array:
    return _half(blocks[:, :2]) * (_nibbles(blocks[:, 2:]) - 8)


def _q4_1(blocks: Array) -> Array:
    return _half(blocks[:, :2]) * _nibbles(blocks[:, 4:]) + _half(blocks[:, 2:4])


def _q5_0(blocks: Array) -> Array:
    return _half(blocks[:, :2]) * (_nibbles(blocks[:, 6:]) + 16 * _fifth_bits(blocks[:, 2:6]) - 16)


def _q5_1(blocks: Array) -> Array:
    numbers = _nibbles(blocks[:, 8:]) + 16 * _fifth_bits(blocks[:, 4:8])
    return _half(blocks[:, :2]) * numbers + _half(blocks[:, 2:4])


def _q8_0(blocks: Array) -> Array:
    return _half(blocks[:, :2]) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)


def _two_bits(data: Array) -> Array:
    """Two-bit numbers: `[blocks, 64]` -> `[blocks, 256]`. Each half of the bytes gives four runs of 32, from the lowest
    bits up."""
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    return ((data.reshape(-1, 2, 1, 32) >> shifts) & 3).reshape(-1, 256).astype(np.int8)


def _q2_k(blocks: Array) -> Array:
    scales, factors = blocks[:, :16], _half(blocks[:, 80:84])
    scale, minimum = factors[:, :1] * (scales & 15), factors[:, 1:] * (scales >> 4)
    return scale[..., None] * _two_bits(blocks[:, 16:80]).reshape(-1, 16, 16) - minimum[..., None]


def _q3_k(blocks: Array) -> Array:
    packed = blocks[:, 96:108]
    # Sixteen scales of six bits: four bits in the first eight bytes, two more in the last four.
    low = np.concatenate((packed[:, :8] & 15, packed[:, :8] >> 4), axis=1)
    high = ((packed[:, None, 8:] >> np.array([0, 2, 4, 6], np.uint8)[:, None]) & 3).reshape(-1, 16)
    scale = _half(blocks[:, 108:]) * ((low | high << 4).astype(np.int8) - 32)
    # Every bit plane of the mask belongs to a run of 32. Where the bit is not set, four is taken off.
    planes = ((blocks[:, None, :32] >> np.arange(8, dtype=np.uint8)[:, None]) & 1).reshape(-1, 256).astype(np.int8)
    numbers = _two_bits(blocks[:, 32:96]) + 4 * planes - 4
    return scale[..., None] * numbers.reshape(-1, 16, 16)


def _scales_and_minima(blocks: Array) -> tuple[Array, Array]:
    """Eight scales and eight minima of a block of 256, `[blocks, 8, 1]` each: six bits each, packed in twelve bytes."""
    factors = _half(blocks[:, :4])
    first, second, third = blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16]
    scales = np.concatenate((first & 63, (third & 15) | (first >> 6) << 4), axis=1)
    minima = np.concatenate((second & 63, (third >> 4) | (second >> 6) << 4), axis=1)
    return (factors[:, :1] * scales)[..., None], (factors[:, 1:2] * minima)[..., None]


def _four_bits(data: Array) -> Array:
    """Four-bit numbers: `[blocks, 128]` -> `[blocks, 8, 32]`: of each 32 bytes the low halves, then the high ones."""
    return _nibbles(data.reshape(-1, 4, 32)).reshape(-1, 8, 32)


def _q4_k(blocks: Array) -> Array:
    scale, minimum = _scales_and_minima(blocks)
    return scale * _four_bits(blocks[:, 16:]) - minimum


def _q5_k(blocks: Array) -> Array:
    scale, minimum = _scales_and_minima(blocks)
    fifth = (blocks[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None]) & 1
    return scale * (_four_bits(blocks[:, 48:]) + 16 * fifth.astype(np.int8)) - minimum


def _q6_k(blocks: Array) -> Array:
    low = blocks[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None] & 15
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8)[:, None] & 3
    numbers = (low.reshape(-1, 16, 16) | high.reshape(-1, 16, 16) << 4).astype(np.int8) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8)
    return (_half(blocks[:, 208:]) * scales)[..., None] * numbers


_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
_READERS: dict[str, Callable[[Array], Array]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0,
    "Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
}  # fmt: skip


def quantise(numbers: Array, name: str) -> bytes:
    """The bytes of float32 `numbers` in the format called `name`: F32, F16, BF16, Q8_0, Q4_0 or Q4_1, rounded as ggml's
    reference does."""
    numbers = np.ascontiguousarray(numbers, np.float32)
    if name in _PLAIN:
        return numbers.astype(_PLAIN[name]).tobytes()
    if name == "BF16":
        return _to_bfloat16(numbers).tobytes()
    blocks = numbers.reshape(-1, 32)
    return b"".join(_WRITERS[name](blocks[start : start + _PIECE]) for start in range(0, len(blocks), _PIECE))


def _to_bfloat16(numbers: Array) -> Array:
    """To the nearest, ties to even; a NaN stays one."""
    bits = numbers.view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(numbers), bits >> 16 | 64, rounded).astype("<u2")


def _inverse(scale: Array) -> Array:
    return np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)


def _join(*parts: Array) -> bytes:
    return np.concatenate([part.view(np.uint8) for part in parts], axis=1).tobytes()


def _pack(numbers: Array) -> Array:
    """Thirty-two numbers of four bits in sixteen bytes."""
    numbers = numbers.clip(0, 15).astype(np.uint8)
    return numbers[:, :16] | numbers[:, 16:] << 4


def _to_q8_0(blocks: Array) -> bytes:
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    scaled = blocks * _inverse(scale)
    # Halves go away from zero, as C's `round` has it.
    return _join(scale.astype("<f2"), np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8))


def _to_q4_0(blocks: Array) -> bytes:
    # The number farthest from zero becomes -8: of the two ends of the range, the one that has a number.
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
    scale = extreme / np.float32(-8)
    return _join(scale.astype("<f2"), _pack(np.trunc(blocks * _inverse(scale) + np.float32(8.5))))


def _to_q4_1(blocks: Array) -> bytes:
    least = blocks.min(axis=1, keepdims=True)
    scale = (blocks.max(axis=1, keepdims=True) - least) / np.float32(15)
    return _join(
        scale.astype("<f2"), least.astype("<f2"), _pack(np.trunc((blocks - least) * _inverse(scale) + np.float32(0.5)))
    )


_WRITERS: dict[str, Callable[[Array], bytes]] = {"Q8_0": _to_q8_0, "Q4_0": _to_q4_0, "Q4_1": _to_q4_1}
