"""GGUF files, as llama.cpp has them: what one says of itself, and where each of its tensors lies.

The file is mapped into memory and its head is read once; no tensor is. (The `gguf` package takes seconds for the
vocabulary of a Qwen.) Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from longjing.errors import UserError

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

SUFFIX = ".gguf"
ALIGNMENT = "general.alignment"
_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class NumberFormat:
    """How a tensor's numbers are stored: `count` of them in every `size` bytes."""

    code: int
    name: str
    count: int
    size: int


_FORMATS = [
    NumberFormat(0, "F32", 1, 4), NumberFormat(1, "F16", 1, 2), NumberFormat(28, "F64", 1, 8),
    NumberFormat(30, "BF16", 1, 2),
    NumberFormat(2, "Q4_0", 32, 18), NumberFormat(3, "Q4_1", 32, 20), NumberFormat(6, "Q5_0", 32, 22),
    NumberFormat(7, "Q5_1", 32, 24), NumberFormat(8, "Q8_0", 32, 34),
    NumberFormat(10, "Q2_K", 256, 84), NumberFormat(11, "Q3_K", 256, 110), NumberFormat(12, "Q4_K", 256, 144),
    NumberFormat(13, "Q5_K", 256, 176), NumberFormat(14, "Q6_K", 256, 210),
]  # fmt: skip
FORMATS = {form.name: form for form in _FORMATS}
_BY_CODE = {form.code: form for form in _FORMATS}
# Formats that aren't read, so that a message can name them.
_FOREIGN = {
    9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S",
    22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0",
    39: "MXFP4", 40: "NVFP4",
}  # fmt: skip


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor in a mapped file: its shape (the innermost dimension last), its numbers' format, and its bytes."""

    name: str
    shape: tuple[int, ...]
    format: NumberFormat
    data: Bytes


class GGUF:
    """An open file: `fields`, what it says of itself, and `tensors` by name."""

    def __init__(self, path: str | Path) -> None:
        """Map the file and read its head. Raises UserError, naming the file, if it isn't a whole one."""
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file
            reason = getattr(error, "strerror", None) or "it is empty"
            raise UserError(f"{self.path} can't be read: {reason}") from None
        self._at = 0
        try:
            self._read()
        except (struct.error, UnicodeDecodeError, OverflowError) as error:
            raise self._broken(f"its head ends too early or makes no sense ({error})") from None

    def _broken(self, what: str) -> UserError:
        return UserError(f"{self.path}: not a whole GGUF file: {what}; copy or download it again")

    def _read(self) -> None:
        magic, (version,) = self._bytes(4), self._unpack("I")
        if magic != _MAGIC:
            raise UserError(f"{self.path} is no GGUF file: it begins with {magic!r} and not {_MAGIC!r}")
        if version not in (2, 3):
            raise UserError(
                f"{self.path}: GGUF version {version} is not read, only 2 and 3 (of little-endian machines)"
            )
        tensors, fields = self._unpack("QQ")
        self.fields: dict[str, Any] = {}
        for _ in range(self._count(fields, 13)):
            name = self._string()
            self.fields[name] = self._value(*self._unpack("I"))
        if isinstance(parts := self.fields.get("split.count"), int) and parts > 1:
            raise UserError(
                f"{self.path} is one of {parts} parts of a model, which are not read apart; join them first with "
                "llama.cpp's `llama-gguf-split --merge FIRST-PART JOINED.gguf`"
            )
        heads = [self._tensor_head() for _ in range(self._count(tensors, 24))]
        alignment = self.fields.get(ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._broken(f"{ALIGNMENT} is {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        contents = np.frombuffer(self._map, np.uint8)
        self.tensors = {head[0]: self._tensor(contents, begin, *head) for head in heads}

    def _tensor_head(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (dimensions,) = self._unpack("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self._broken(f"the tensor {name} has {dimensions} dimensions")
        shape = self._unpack(f"{dimensions}Q")[::-1]
        code, offset = self._unpack("IQ")
        return name, shape, code, offset

    def _tensor(
        self, contents: Bytes, begin: int, name: str, shape: tuple[int, ...], code: int, offset: int
    ) -> GGUFTensor:
        form = _BY_CODE.get(code)
        if form is None:
            raise UserError(
                f"{self.path}: {name} is stored as {_FOREIGN.get(code, f'number format {code}')}, which is not read; "
                f"known: {', '.join(FORMATS)}. Take a file of this model in one of those"
            )
        numbers = math.prod(shape)
        if shape[-1] % form.count:
            raise self._broken(
                f"{name} has rows of {shape[-1]} numbers, and {form.name} comes in blocks of {form.count}"
            )
        begin += offset
        end = begin + numbers // form.count * form.size
        if end > len(contents):
            missing = f"{end - len(contents):,} bytes of it are missing"
            raise self._broken(f"the tensor {name} lies past the end of the file; {missing}")
        return GGUFTensor(name, shape, form, contents[begin:end])

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            kind, length = self._unpack("IQ")
            if kind == _STRING:
                return [self._string() for _ in range(self._count(length, 8))]
            return list(self._unpack(f"{self._count(length, 1)}{self._letter(kind)}"))
        return self._unpack(self._letter(kind))[0]

    def _letter(self, kind: int) -> str:
        if kind not in _NUMBERS:
            raise self._broken(f"a field has the unknown type {kind}")
        return _NUMBERS[kind]

    def _count(self, number: int, least: int) -> int:
        """A number of things of at least `least` bytes each, if the file can have so many: it says what it likes."""
        if number * least > len(self._map):
            raise self._broken(f"it promises {number:,} entries in {len(self._map):,} bytes")
        return number

    def _string(self) -> str:
        # A vocabulary may hold halves of characters.
        return self._bytes(*self._unpack("Q")).decode("utf-8", "surrogateescape")

    def _bytes(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._map):
            raise self._broken("its head ends too early")
        result = self._map[self._at : end]
        self._at = end
        return result

    def _unpack(self, letters: str) -> tuple[Any, ...]:
        form = struct.Struct(f"<{letters}")
        values = form.unpack_from(self._map, self._at)
        self._at += form.size
        return values


def write_gguf(
    file: BinaryIO,
    fields: Mapping[str, Any],
    tensors: Mapping[str, tuple[tuple[int, ...], NumberFormat]],
    contents: Iterator[bytes],
) -> None:
    """Write a GGUF file: `fields` (a number without a fraction is stored as uint32), the `tensors`' shapes and formats,
    and behind them their `contents`, in the same order, which are taken one by one.

    Raises ValueError for contents of another length than the shapes say.
    """
    alignment = fields.get(ALIGNMENT, 32)
    file.write(_MAGIC + struct.pack("<IQQ", 3, len(tensors), len(fields)))
    for name, value in fields.items():
        file.write(_packed_string(name) + _packed(value))
    offset, sizes = 0, []
    for name, (shape, form) in tensors.items():
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        file.write(_packed_string(name) + dimensions + struct.pack("<IQ", form.code, offset))
        sizes.append(math.prod(shape) // form.count * form.size)
        offset += -(-sizes[-1] // alignment) * alignment
    for size, content in zip(sizes, contents, strict=True):
        if len(content) != size:
            raise ValueError(f"a tensor of {size} bytes has {len(content)}")
        file.write(b"\0" * (-file.tell() % alignment) + content)


def _packed_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _packed(value: Any) -> bytes:
    """A field's value behind its type."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", _STRING) + _packed_string(value)
        case [str(), *_]:
            return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_packed_string, value))
        case [bool(), *_]:
            return struct.pack(f"<IIQ{len(value)}?", _ARRAY, 7, len(value), *value)
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", _ARRAY, 5, len(value), *value)
        case [float(), *_]:
            return struct.pack(f"<IIQ{len(value)}f", _ARRAY, 6, len(value), *value)
    raise TypeError(f"{value!r} has no form in GGUF")
