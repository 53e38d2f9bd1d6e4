"""The seam between a model and the formats that its weights may lie in: tensors that can be asked before they are read.

A format is one file beside this. It opens a directory and gives every tensor under the name that the model's family
knows it by. Nothing is read but names, shapes and number formats, until one tensor after the other is.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class StoredTensor(ABC):
    """One tensor in an open file."""

    name: str
    file: Path

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape that it has when it is read."""

    @property
    @abstractmethod
    def dtype(self) -> str:
        """The name of its number format: one of `FLOATS`, if that is what `read` gives."""

    @abstractmethod
    def read(self) -> Tensor:
        """The tensor, on the CPU."""
