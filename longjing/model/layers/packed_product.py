"""Products in bfloat16 on a CPU, with matrices in oneDNN's own layout, of which a row comes out the same whatever is
beside it: so an engine that decodes a few rows and a trainer that reads whole texts compute the same bits.

oneDNN lays a plain matrix out anew at each call, and cuts its sums otherwise for other numbers of rows. Of a packed
matrix a sum of up to `_LONG` numbers is one piece, if their number is a multiple of `_STEP`. A longer one is cut in a
way that depends on the number of rows, so there that is always `_ROWS`. Measured on AVX512_BF16 and AMX
(docs/decisions.md).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

_STEP, _LONG, _ROWS = 64, 1024, 32

_packed: WeakIdKeyDictionary = WeakIdKeyDictionary()  # by weight: the state it was packed in, and the result


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products in this format, on this device, are oneDNN's."""
    on_cpu = device.type == "cpu" and dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack(weight: Tensor) -> Tensor:
    """A matrix `[out, in]` in bfloat16, laid out for products. It is made once for each state of the weight."""
    # With its address: a reference policy's numbers may stand in its place for a while.
    state = None if weight.is_inference() else (weight._version, weight.data_ptr())
    kept = _packed.get(weight)
    if kept is None or kept[0] is None or kept[0] != state:
        kept = state, torch.ops.mkldnn._reorder_linear_weight(_widened(weight.detach().bfloat16()), 1)
        _packed[weight] = kept
    result: Tensor = kept[1]
    return result


def _widened(x: Tensor) -> Tensor:
    """`x` with zeros behind its last dimension, up to a multiple of `_STEP`."""
    missing = -x.shape[-1] % _STEP
    return F.pad(x, (0, missing)) if missing else x


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None, batch_invariant: bool) -> Tensor:
    """`x` `[..., in]` in bfloat16 times a packed matrix, transposed, plus `bias` `[out]` -> `[..., out]`. With
    `batch_invariant` each row is what it is alone."""

    def product(x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")

    x = _widened(x)
    if not batch_invariant or x.shape[-1] <= _LONG:
        return product(x)
    rows = x.flatten(0, -2)
    parts = F.pad(rows, (0, 0, 0, -len(rows) % _ROWS)).split(_ROWS)
    return torch.cat([product(part) for part in parts])[: len(rows)].unflatten(0, x.shape[:-1])


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return packed_product(x, pack(weight), None if bias is None else bias.to(x.dtype), batch_invariant=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_x = gradient @ weight.to(gradient.dtype) if ctx.needs_input_grad[0] else None
        of_weight = (rows.mT @ x.flatten(0, -2)).to(weight.dtype) if ctx.needs_input_grad[1] else None
        of_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return of_x, of_weight, of_bias


def is_for(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether `batch_invariant_product` is for products of `dtype` with this weight: a parameter, on such a CPU."""
    if dtype is not torch.bfloat16 or not isinstance(weight, torch.nn.Parameter) or weight.is_inference():
        return False
    return can_pack(weight.device, dtype)


def batch_invariant_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x` `[..., in]` times the transposed `weight` `[out, in]`, plus `bias` -> `[..., out]`, with a gradient."""
    result: Tensor = _Product.apply(x.to(torch.bfloat16), weight, bias)  # type: ignore[no-untyped-call]
    return result
