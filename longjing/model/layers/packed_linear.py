"""Matrices in oneDNN's own layout, for decoding in bfloat16 on a CPU: else each product lays them out anew.

A product of one row takes half of the time so, of 64 rows five sixths.
"""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from longjing.model.layers.linear import Storage
from longjing.model.layers.packed_product import multiply, pack


class PackedLinear(Storage):
    """A matrix `[out, in]` in bfloat16, packed, without its plain numbers. It doesn't learn. A row may come out
    otherwise beside others: few rows of long sums are faster so."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape = weight.shape
        self.pack(weight)

    def pack(self, weight: Tensor) -> None:
        """Take over the numbers of `weight`."""
        # No buffer: the packed tensor can't be copied, moved or saved.
        self._packed: Tensor = pack(weight.detach().bfloat16())

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: copies of a network share what can't be copied."""
        return self

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return multiply(x, self._packed, bias)

    def unbind(self) -> Sequence[Storage]:
        raise TypeError("a matrix is no stack")

    def dense(self) -> Tensor:
        return self._packed.to_dense()
