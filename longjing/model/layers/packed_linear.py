"""Matrices in oneDNN's own layout, for decoding in bfloat16 on a CPU: else each product lays them out anew.

A product of one row takes half of the time so, of 64 rows five sixths. Its numbers are the same.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from longjing.model.layers.linear import Storage


class PackedLinear(Storage):
    """A matrix `[out, in]` in bfloat16, packed. It doesn't learn."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.pack(weight)

    def pack(self, weight: Tensor) -> None:
        """Take over the numbers of `weight`."""
        # No buffer: the packed tensor can't be copied, moved or saved.
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16(), 1)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: copies of a network share what can't be copied."""
        return self

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, bias, "none", [], "")

    def unbind(self) -> Sequence[Storage]:
        raise TypeError("a matrix is no stack")

    def dense(self) -> Tensor:
        return self.packed.to_dense()


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether products in this format, on this device, are oneDNN's."""
    on_cpu = device.type == "cpu" and dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()
