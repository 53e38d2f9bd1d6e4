"""The one way to multiply by the network's matrices, whatever keeps their numbers.

A weight is a tensor (dense, the plain case) or a `Storage` in its place: quantised numbers with their scales, or a
dense weight with an adapter beside it. Layers never look inside: a projection calls `Linear`, the experts call
`linear` with each matrix of a stack, and absorbed attention, which uses the halves of a matrix apart, asks for `dense`.
So a new storage is one file: its class, and the function that puts it in the place of a model's tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.layers.norm import compute_dtype
from longjing.model.layers.packed_product import Matrix, is_for, packed_product


class Storage(nn.Module, ABC):
    """Keeps a matrix `[out, in]`, or a stack `[count, out, in]`, otherwise than as one tensor.

    It is a module, so that what it keeps, as parameters and buffers, moves, is saved and is trained with the network.
    """

    @abstractmethod
    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`x` `[..., in]` times the transposed matrix, plus `bias` `[out]` -> `[..., out]`; differentiable in `x`."""

    @abstractmethod
    def unbind(self) -> "Sequence[Storage]":
        """The matrices of a stack."""

    @abstractmethod
    def dense(self) -> Tensor:
        """The numbers themselves, in the stack's or the matrix's shape, and in any number format."""

    def matrix(self) -> Matrix | None:
        """What `packed_product` may take in place of `linear`, if it can be one."""
        return None


Weight = Tensor | Storage


def linear(x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """`x` `[..., in]` times a transposed matrix `[out, in]`, plus `bias` `[out]` -> `[..., out]`."""
    if (matrix := _packable(weight)) is not None:
        return packed_product(x, [matrix], bias)
    return F.linear(x, weight, bias) if isinstance(weight, Tensor) else weight.linear(x, bias)


def _packable(weight: Weight) -> Matrix | None:
    """The weight as `packed_product` wants it, if products with it are to be those."""
    if isinstance(weight, Tensor):
        return Matrix(weight) if is_for(weight, compute_dtype(weight)) else None
    matrix = weight.matrix()
    return matrix if matrix is not None and is_for(matrix.weight, compute_dtype(matrix.weight)) else None


def dense(weight: Weight) -> Tensor:
    """The weight's numbers: itself, where it is a tensor."""
    return weight if isinstance(weight, Tensor) else weight.dense()


def replace_weight(module: nn.Module, name: str, weight: Weight) -> None:
    """Put another weight in the place of the module's parameter (or storage) `name`."""
    delattr(module, name)
    setattr(module, name, weight)


class Linear(nn.Linear):
    """A projection, whose `weight` may be any `Weight`."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[..., in]` -> `[..., out]`."""
        weight = self._parameters.get("weight")  # past `nn.Module.__getattr__`, which decoding would feel
        if weight is None:
            return linear(x, self.weight, self.bias)
        return linear(x, weight, self._parameters["bias"])


def project(x: Tensor, *projections: Linear) -> tuple[Tensor, ...]:
    """What each of the projections makes of `x`; as one product, where that is faster (`packed_product`)."""
    matrices: list[Matrix] = []
    for projection in projections:
        if (matrix := _packable(projection.weight)) is None:
            return tuple(projection(x) for projection in projections)
        matrices.append(matrix)
    biases: list[Tensor] = [projection.bias for projection in projections if projection.bias is not None]
    if len({matrix.factors is None for matrix in matrices}) > 1 or len(biases) not in (0, len(matrices)):
        return tuple(projection(x) for projection in projections)
    joint = packed_product(x, matrices, torch.cat(biases) if biases else None)
    return joint.split([len(matrix.weight) for matrix in matrices], dim=-1)
