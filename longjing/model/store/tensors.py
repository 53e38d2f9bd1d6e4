"""The seam between a model and the formats that its weights may lie in: tensors that can be asked before they are read.

A format is one file beside this. It opens a directory and gives every tensor under the name that the model's family
knows it by. Nothing is read but names, shapes and number formats, until one tensor after the other is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in an open file.

    `read` gives it on the CPU, in this `shape`; `dtype` names its number format, one of `FLOATS` if that is what
    `read` gives.
    """

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]
