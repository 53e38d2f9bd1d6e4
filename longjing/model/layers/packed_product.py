"""Products in bfloat16 on a CPU, with matrices in oneDNN's own layout, of which a row comes out the same whatever is
beside it: so an engine that decodes a few rows and a trainer that reads whole texts compute the same bits.

oneDNN lays a plain matrix out anew at each call, and cuts its sums otherwise for other numbers of rows. Of a packed
matrix a sum of up to `_LONG` numbers is one piece, if their number is a multiple of `_STEP`, and there are at least
`_WIDE` results of a row for each thread. Others are cut in a way that depends on the number of rows, so there that is
always `_ROWS`. Measured on AVX512_BF16 and AMX (docs/decisions.md).

Matrices that the same rows are multiplied by lie side by side and make one product, and an adapter is part of its
matrix: `x (W + s B A)^T` is `[x, x A^T] [W, s B]^T`. At these sizes a product more costs as much as what it computes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

_STEP, _LONG, _WIDE, _ROWS = 64, 1024, 128, 64

_packed: WeakIdKeyDictionary = WeakIdKeyDictionary()  # by the first tensor: the state it was packed in, and the result


@dataclass(frozen=True)
class Matrix:
    """A parameter `[out, in]`; with `factors` it is frozen, and `scale * b @ a` is added: `a` `[rank, in]`, `b`
    `[out, rank]`."""

    weight: Tensor
    factors: tuple[Tensor, Tensor] | None = None
    scale: float = 1.0


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products in this format, on this device, are oneDNN's."""
    on_cpu = device.type == "cpu" and dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def is_for(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether `packed_product` is for products of `dtype` with this weight: a parameter, on such a CPU."""
    if dtype is not torch.bfloat16 or not isinstance(weight, torch.nn.Parameter) or weight.is_inference():
        return False
    return can_pack(weight.device, dtype)


def packed_product(x: Tensor, matrices: Sequence[Matrix], bias: Tensor | None = None) -> Tensor:
    """`x` `[..., in]` times the transposed matrices, one beside the other, plus `bias` -> `[..., out + out + ...]`,
    with a gradient. All of the matrices have factors, or none."""
    x = x.to(torch.bfloat16)
    if not torch.is_grad_enabled():
        return _forward(x, matrices, bias)[0]
    tensors = [tensor for matrix in matrices for tensor in (matrix.weight, *(matrix.factors or ()))]
    result: Tensor = _Product.apply(x, matrices, bias, *tensors)  # type: ignore[no-untyped-call]
    return result


def _forward(x: Tensor, matrices: Sequence[Matrix], bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The product, and the one with the first factors."""
    x, inner = _widened(x), None
    if matrices[0].factors is not None:
        inner = _multiply(x, _pack_once(_factors(matrices, 0), lambda: _first(matrices)))
        x = torch.cat((x, inner), dim=-1)
    packed = _pack_once(
        [*_factors(matrices, 1), *(matrix.weight for matrix in matrices)],
        lambda: torch.cat((_widened(_dense(matrices)), *([] if inner is None else [_second(matrices)])), dim=1),
    )
    return _multiply(x, packed, None if bias is None else bias.to(x.dtype)), inner


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Sequence[Matrix], bias: Tensor | None, *tensors: Tensor) -> Tensor:
        outer, inner = _forward(x, matrices, bias)
        ctx.save_for_backward(x, inner)
        ctx.matrices = matrices
        return outer

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, inner), matrices = ctx.saved_tensors, ctx.matrices
        gradient, x_rows = gradients[0].flatten(0, -2), x.flatten(0, -2)
        of_x = gradient @ _dense(matrices) if ctx.needs_input_grad[0] else None
        of_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        sizes = [len(matrix.weight) for matrix in matrices]
        if inner is None:
            of_weights: Sequence[Tensor | None] = [None] * len(matrices)
            if any(ctx.needs_input_grad[3:]):
                parts = (gradient.mT @ x_rows).split(sizes)
                of_weights = [part.to(matrix.weight.dtype) for part, matrix in zip(parts, matrices, strict=True)]
            return None if of_x is None else of_x.view_as(x), None, of_bias, *of_weights
        first, second = _first(matrices), _second(matrices)
        of_inner = gradient @ second
        if of_x is not None:
            of_x = of_x.addmm_(of_inner, first[:, : x.shape[-1]]).view_as(x)
        ranks = [len(a) for a in _factors(matrices, 0)]
        of_a = (of_inner.mT @ x_rows)[: sum(ranks)].float().split(ranks)
        of_b = (gradient.mT @ inner.flatten(0, -2))[:, : sum(ranks)].float()
        blocks = [block.split(ranks, dim=1)[number] for number, block in enumerate(of_b.split(sizes))]
        of_tensors = [
            each
            for a, b, matrix in zip(of_a, blocks, matrices, strict=True)
            for each in (None, a.contiguous(), b * matrix.scale)
        ]
        return of_x, None, of_bias, *of_tensors


def _dense(matrices: Sequence[Matrix]) -> Tensor:
    """The weights in bfloat16, one below the other."""
    weights = [matrix.weight.detach().bfloat16() for matrix in matrices]
    return weights[0] if len(weights) == 1 else torch.cat(weights)


def _factors(matrices: Sequence[Matrix], number: int) -> list[Tensor]:
    return [matrix.factors[number] for matrix in matrices if matrix.factors is not None]


def _first(matrices: Sequence[Matrix]) -> Tensor:
    """The first factors, one below the other, with rows of zeros up to a multiple of `_STEP`: so what comes out needs
    no zeros behind it."""
    rows = torch.cat([a.detach().bfloat16() for a in _factors(matrices, 0)])
    return _widened(F.pad(rows, (0, 0, 0, -len(rows) % _STEP)))


def _second(matrices: Sequence[Matrix]) -> Tensor:
    """The second factors, times their scales: each below the one before, and right of it."""
    scaled = [matrix.factors[1].detach() * matrix.scale for matrix in matrices if matrix.factors is not None]
    return _widened(torch.block_diag(*scaled).bfloat16())


def _widened(x: Tensor) -> Tensor:
    """`x` with zeros behind its last dimension, up to a multiple of `_STEP`."""
    missing = -x.shape[-1] % _STEP
    return F.pad(x, (0, missing)) if missing else x


def _pack_once(sources: Sequence[Tensor], numbers: Callable[[], Tensor]) -> Tensor:
    """Packed numbers `[out, in]` that are made of these tensors: once for each state of theirs."""
    # With their addresses: a reference policy's numbers may stand in their place for a while.
    state = [(tensor._version, tensor.data_ptr()) for tensor in sources]
    kept = _packed.get(sources[0])
    if kept is None or kept[0] != state:
        kept = state, pack(numbers())
        _packed[sources[0]] = kept
    result: Tensor = kept[1]
    return result


def pack(weight: Tensor) -> Tensor:
    """A matrix `[out, in]` in bfloat16, in oneDNN's layout."""
    result: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 1)
    return result


def multiply(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x` `[..., in]` times a packed matrix, transposed, plus `bias` -> `[..., out]`."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return result


def _multiply(x: Tensor, packed: Tensor, bias: Tensor | None = None) -> Tensor:
    """`multiply`, with the sums of each row cut alike, however many rows there are."""
    if x.shape[-1] <= _LONG and len(packed) >= _WIDE * torch.get_num_threads():
        return multiply(x, packed, bias)
    rows = x.flatten(0, -2)
    count = len(rows)
    if missing := -count % _ROWS:
        rows = F.pad(rows, (0, 0, 0, missing))
    return torch.cat([multiply(part, packed, bias) for part in rows.split(_ROWS)])[:count].unflatten(0, x.shape[:-1])
