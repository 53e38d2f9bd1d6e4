"""Root mean square layer normalisation (arXiv 1910.07467)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.RMSNorm):
    """PyTorch's, computed in float32, with the result in the format of the products that read it: the weights', or that
    of autocast. Weights are rounded to that format first, so that it doesn't matter which of the two it is."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[..., width]` -> the same shape."""
        dtype = compute_dtype(self.weight)
        weight = self.weight.to(dtype).float()
        if dtype == torch.bfloat16 and x.device.type == "cpu":
            assert self.eps is not None
            if not torch.is_grad_enabled():
                return _normed(x.float(), weight, self.eps)[0]
            result: Tensor = _RMSNorm.apply(x.float(), weight, self.eps)  # type: ignore[no-untyped-call]
            return result
        return F.rms_norm(x.float(), self.normalized_shape, weight, self.eps).to(dtype)


def _normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of float32 `x` in bfloat16, and what each row was multiplied by."""
    factor = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * factor).mul_(weight).bfloat16(), factor


class _RMSNorm(torch.autograd.Function):
    """`_normed`, with a gradient. PyTorch's takes a CPU three times as long, forwards and backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        result, factor = _normed(x, weight, eps)
        ctx.save_for_backward(x, factor, weight)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, factor, weight = ctx.saved_tensors
        gradient, of_weight = gradients[0].float(), None
        if ctx.needs_input_grad[1]:
            of_weight = (gradient * x * factor).flatten(0, -2).sum(0)
        gradient = gradient * weight
        along = torch.linalg.vecdot(gradient, x)[..., None] * factor**3 / -x.shape[-1]
        return gradient.mul_(factor).addcmul_(x, along), of_weight, None


def compute_dtype(weight: Tensor) -> torch.dtype:
    """The number format of products with this weight."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
