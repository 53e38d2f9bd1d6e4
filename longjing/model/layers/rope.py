"""Rotary position embeddings (arXiv 2104.09864) and how they are stretched: linear, YaRN, llama3."""

import math
from typing import Any

import torch
from torch import Tensor

from longjing.model.config import ModelConfig


def inverse_frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """The angle per position of each rotating pair, `[rotary_dim / 2]` float32, and the factor on cos and sin."""
    rope, dim = config.rope, config.rotary_dim
    frequencies = rope["rope_theta"] ** -(torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)
    match rope["rope_type"]:
        case "linear":
            return frequencies / rope["factor"], 1.0
        case "yarn":
            return _yarn(frequencies, rope, dim)
        case "llama3":
            return _llama3(frequencies, rope), 1.0
    return frequencies, 1.0


def _yarn(frequencies: Tensor, rope: dict[str, Any], dim: int) -> tuple[Tensor, float]:
    """YaRN (arXiv 2309.00071, section 3): slow pairs are interpolated, fast ones kept, a ramp between."""
    theta, factor, length = rope["rope_theta"], rope["factor"], rope["original_max_position_embeddings"]

    def pair_turning(turns: float) -> float:
        """The (fractional) pair that turns this many times over the original length."""
        return dim * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_turning(rope.get("beta_fast") or 32), pair_turning(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = ((torch.arange(dim // 2).float() - low) / (max(high - low, 0.001))).clamp(0, 1)
    blended = frequencies / factor * ramp + frequencies * (1 - ramp)

    def magnitude(mscale: float) -> float:
        return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention = rope.get("attention_factor")
    if attention is None:
        mscale, mscale_all_dim = rope.get("mscale"), rope.get("mscale_all_dim")
        attention = (
            magnitude(mscale) / magnitude(mscale_all_dim) if mscale and mscale_all_dim else magnitude(1)
        )
    return blended, float(attention)


def _llama3(frequencies: Tensor, rope: dict[str, Any]) -> Tensor:
    """Llama 3.1's stretch: wavelengths beyond the original length are divided by `factor`, a ramp before."""
    length, factor = rope["original_max_position_embeddings"], rope["factor"]
    slow, fast = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = length * frequencies / (2 * math.pi)
    keep = ((turns - slow) / (fast - slow)).clamp(0, 1)
    return frequencies * keep + frequencies / factor * (1 - keep)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn each pair of the last dimension of `x` `[..., rotary_dim]` by its angle.

    `cos` and `sin` are `[..., rotary_dim / 2]`, broadcast over heads. A pair is two neighbours
    (`interleaved`, as DeepSeek stores them) or two halves (Qwen2, Llama). The result is laid out in
    halves either way: queries and keys agree, so their products do.
    """
    first, second = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
