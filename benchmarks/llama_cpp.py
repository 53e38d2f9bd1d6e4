"""llama.cpp's C functions, out of the package `xllamacpp` (`pip install xllamacpp==2026.10.11549`): the layout of the
parameters is that version's."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import xllamacpp


class Opaque(ctypes.Structure):
    """A struct that is passed by value: longer than any of llama.cpp's, which read their own length of it."""

    _fields_ = [("data", ctypes.c_uint8 * 512)]

    def set(self, offset: int, value: int) -> None:
        """Write an int32."""
        self.data[offset : offset + 4] = list(value.to_bytes(4, "little", signed=True))


class Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)), ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))), ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]  # fmt: skip


class LlamaCpp:
    """llama.cpp's C functions."""

    def __init__(self) -> None:
        self._library = library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("*.so"))))
        pointer = ctypes.c_void_p
        for name, arguments, result in (
            ("llama_model_default_params", [], Opaque), ("llama_context_default_params", [], Opaque),
            ("llama_model_load_from_file", [ctypes.c_char_p, Opaque], pointer),
            ("llama_init_from_model", [pointer, Opaque], pointer), ("llama_free", [pointer], None),
            ("llama_model_free", [pointer], None), ("llama_batch_init", [ctypes.c_int32] * 3, Batch),
            ("llama_decode", [pointer, Batch], ctypes.c_int32), ("llama_log_set", [pointer, pointer], None),
            ("llama_get_logits", [pointer], ctypes.POINTER(ctypes.c_float)),
            ("llama_get_memory", [pointer], pointer), ("llama_memory_clear", [pointer, ctypes.c_bool], None),
        ):  # fmt: skip
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, result
        self._quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)(lambda *_: None)
        library.llama_log_set(ctypes.cast(self._quiet, pointer), None)

    @contextmanager
    def context(self, file: Path, columns: int, rows: int = 1, threads: int = 1) -> Iterator["LlamaContext"]:
        """The model of a file, with a cache of `rows` sequences of `columns`. Raises RuntimeError for a file that it
        doesn't load."""
        library = self._library
        model = library.llama_model_load_from_file(str(file).encode(), library.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp doesn't load {file}")
        settings = library.llama_context_default_params()
        # n_ctx, n_batch, n_ubatch, n_seq_max, threads of both kinds, flash attention, the format of keys and of values
        most = columns * rows
        for offset, value in ((0, most), (4, max(512, rows)), (8, 512), (12, rows), (28, threads), (32, threads),
                              (52, 0), (104, 0), (108, 0)):  # fmt: skip
            settings.set(offset, value)
        context = library.llama_init_from_model(model, settings)
        try:
            yield LlamaContext(library, context, most)
        finally:
            library.llama_free(context)
            library.llama_model_free(model)

    def logits(self, file: Path, tokens: list[int], vocabulary: int) -> torch.Tensor:
        """`[tokens, vocabulary]`. Raises RuntimeError for a file that it doesn't load."""
        with self.context(file, 256) as context:
            places = [(token, position, 0, True) for position, token in enumerate(tokens)]
            return torch.from_numpy(context.decode(places, vocabulary))


class LlamaContext:
    """A model with a cache."""

    def __init__(self, library: ctypes.CDLL, context: int, most: int) -> None:
        self._library, self._context = library, context
        self._batch = library.llama_batch_init(most, 0, 1)

    def decode(self, places: Sequence[tuple[int, int, int, bool]], vocabulary: int) -> np.ndarray:
        """The logits `[wanted, vocabulary]`. `places`: tokens with their positions and sequences, and whether the
        logits are wanted."""
        batch = self._batch
        batch.n_tokens = len(places)
        for index, (token, position, sequence, wanted) in enumerate(places):
            batch.token[index], batch.pos[index], batch.n_seq_id[index] = token, position, 1
            batch.seq_id[index][0], batch.logits[index] = sequence, wanted
        if self._library.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        count = sum(place[3] for place in places)
        numbers = self._library.llama_get_logits(self._context)
        return np.ctypeslib.as_array(numbers, (count, vocabulary)).copy()

    def forget(self) -> None:
        """Empty the cache."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), True)
