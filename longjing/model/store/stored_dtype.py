"""In which number format a model's weights lie, so that it can be computed in one that loses nothing."""

from collections import Counter
from contextlib import ExitStack
from math import prod
from pathlib import Path

import torch

from longjing.gguf import GGUF, SUFFIX
from longjing.model.device import computes_in_bfloat16
from longjing.model.store.safetensors import open_tensors
from longjing.model.threads import SMALL


def suitable_dtype(path: Path, device: torch.device) -> torch.dtype:
    """bfloat16 for a model whose weights are stored in no more bits, if the device computes in it fast; else float32,
    and so for small ones, which gain nothing. `path`: a directory, or a GGUF file."""
    if not computes_in_bfloat16(device):
        return torch.float32
    numbers: Counter[str] = Counter()
    if path.suffix == SUFFIX:
        for tensor in GGUF(path).tensors.values():
            numbers[tensor.format.name] += prod(tensor.shape)
    else:
        with ExitStack() as stack:
            for stored in open_tensors(path, stack).values():
                numbers[stored.dtype] += prod(stored.shape)
    exact = numbers["F64"] + numbers["F32"] + (numbers["F16"] if path.suffix != SUFFIX else 0)
    return torch.float32 if numbers.total() < SMALL or exact > numbers.total() / 2 else torch.bfloat16


def exact_dtype(path: Path) -> torch.dtype:
    """bfloat16 for a directory whose weights are all stored in it; else float32, which loses nothing of others."""
    if path.suffix == SUFFIX:
        return torch.float32
    with ExitStack() as stack:
        stored = open_tensors(path, stack).values()
        dtypes = {tensor.dtype for tensor in stored if not tensor.name.endswith("e_score_correction_bias")}
    return torch.bfloat16 if dtypes == {"BF16"} else torch.float32
