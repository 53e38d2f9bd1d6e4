"""Longjing: an open implementation of the system that DeepSeek-R1 is."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from longjing import moved as _moved  # noqa: F401 (it hears of imports that fail)

__version__ = "0.1.0"

# Threads that wait for each other should soon stop spinning: beside another busy process that takes the very core which
# the other thread needs. OpenMP reads this once, so it stands before torch is imported (`benchmarks/threads.py`).
_WAITING = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}  # of GNU's OpenMP, some 0.1 ms; of LLVM's, in ms
if not {"OMP_WAIT_POLICY", *_WAITING} & os.environ.keys():
    os.environ.update(_WAITING)

if TYPE_CHECKING:
    import torch

    from longjing.model.decoder import Decoder
    from longjing.text.tokenizer import Tokenizer


def load(
    path_or_name: str | Path, device: str = "cpu", dtype: "str | torch.dtype | None" = None
) -> "tuple[Decoder, Tokenizer]":
    """A model and its tokenizer, from a Hugging Face directory or a GGUF file, a finished run, or by
    name: a shipped model's, `smollm2`, or one of the Hugging Face Hub. An adapter comes with its base.

    `device` is `cpu`, `cuda`, `mps` or `auto`; `dtype` is `float32` (the default), `bfloat16`, or `auto`:
    bfloat16 where the files hold no more and the device computes in it fast, as `longjing chat` has it.
    `model(tokens)` takes `[batch, length]` and gives logits `[batch, length, vocabulary]`. Raises UserError.
    """
    # Imported here because torch takes seconds, and `longjing --help` shouldn't.
    from longjing.model.device import choose_device, choose_dtype
    from longjing.runs.models import load

    chosen = choose_device(device)
    if dtype == "auto":
        return load(path_or_name, chosen, "auto")
    return load(path_or_name, chosen, choose_dtype(dtype, chosen) if isinstance(dtype, str) else dtype)
