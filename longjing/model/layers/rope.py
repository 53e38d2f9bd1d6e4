"""Rotary position embeddings (arXiv 2104.09864) and how they are stretched: linear, YaRN (`yarn.py`), llama3."""

import math
from typing import Any

import torch
from torch import Tensor

from longjing.model.config import ModelConfig
from longjing.model.layers.yarn import yarn


def inverse_frequencies(config: ModelConfig) -> tuple[Tensor, float]:
    """The angle per position of each rotating pair, `[rotary_dim / 2]` float32, and the factor on cos and sin."""
    rope, dim = config.rope, config.rotary_dim
    frequencies = rope["rope_theta"] ** -(torch.arange(0, dim, 2, dtype=torch.int64).float() / dim)
    match rope["rope_type"]:
        case "linear":
            return frequencies / rope["factor"], 1.0
        case "yarn":
            return yarn(frequencies, rope)
        case "llama3":
            return _llama3(frequencies, rope), 1.0
    return frequencies, 1.0


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
