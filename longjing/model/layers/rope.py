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
    """Turn each pair of the last dimension of `x` `[..., rotary_dim]` by its angle, in float32; the result has the
    format of `x`.

    `cos` and `sin` are as `cos_and_sin` makes them, broadcast over heads. A pair is two neighbours (`interleaved`, as
    DeepSeek stores them) or two halves (Qwen2, Llama). The result is laid out in halves either way: queries and keys
    agree, so their products do.
    """
    if interleaved:
        x = x.unflatten(-1, (-1, 2)).mT.flatten(-2)
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        if not torch.is_grad_enabled():
            return _turned(x, cos, sin, 1)
        result: Tensor = _Rotation.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return result
    return (x * cos + _swapped(x) * sin).to(x.dtype)


def cos_and_sin(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Of the angles `[..., rotary_dim / 2]` of the pairs: what both halves of a vector are multiplied by, and what the
    halves are that stand in each other's place. `[..., rotary_dim]` each."""
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def _swapped(x: Tensor) -> Tensor:
    """`x` with its halves in each other's place."""
    return x.roll(x.shape[-1] // 2, dims=-1)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    numbers = x.float()
    return (numbers * cos).addcmul_(_swapped(numbers), sin, value=direction).to(x.dtype)


class _Rotation(torch.autograd.Function):
    """A rotation, whose gradient is turned back: a third of the memory traffic that autograd would cause."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, sin, -1), None, None
