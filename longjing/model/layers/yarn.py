"""YaRN: rotary positions stretched to longer texts (arXiv 2309.00071)."""

import math
from typing import Any

import torch
from torch import Tensor


def yarn(frequencies: Tensor, rope: dict[str, Any]) -> tuple[Tensor, float]:
    """The stretched angle per position of each pair, `[pairs]`, and the factor on cos and sin.

    Section 3.2 ("NTK-by-parts"): pairs that turn often over the original length are kept, slow ones are interpolated,
    with a ramp between.
    """
    theta, factor, length = rope["rope_theta"], rope["factor"], rope["original_max_position_embeddings"]
    pairs = len(frequencies)

    def pair_turning(turns: float) -> float:
        """The (fractional) pair that turns this many times over the original length."""
        return 2 * pairs * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_turning(rope.get("beta_fast") or 32), pair_turning(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    ramp = ((torch.arange(pairs).float() - low) / (max(high - low, 0.001))).clamp(0, 1)
    blended = frequencies / factor * ramp + frequencies * (1 - ramp)
    return blended, _magnitude(rope)


def _magnitude(rope: dict[str, Any]) -> float:
    """The factor on cos and sin: 1 where the softmax scale has it already (`ModelConfig.softmax_scale`)."""
    attention = rope.get("attention_factor")
    if attention is not None:
        return float(attention)
    mscale, mscale_all_dim = rope.get("mscale"), rope.get("mscale_all_dim")
    if mscale and mscale_all_dim:
        return _mscale(mscale, rope["factor"]) / _mscale(mscale_all_dim, rope["factor"])
    return _mscale(1, rope["factor"])


def _mscale(mscale: float, factor: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0
