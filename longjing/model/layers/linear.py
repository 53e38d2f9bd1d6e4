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

from longjing.model.layers.packed_product import batch_invariant_product, is_for


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


Weight = Tensor | Storage


def linear(x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """`x` `[..., in]` times a transposed matrix `[out, in]`, plus `bias` `[out]` -> `[..., out]`."""
    if not isinstance(weight, Tensor):
        return weight.linear(x, bias)
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
    return batch_invariant_product(x, weight, bias) if is_for(weight, dtype) else F.linear(x, weight, bias)


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
