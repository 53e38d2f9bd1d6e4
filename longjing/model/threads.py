"""How many CPU threads decoding takes.

A step of decoding is a chain of small products: a second thread waits more than it works. So small models decode on
one thread, whatever else may use all of them (`benchmarks/threads.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longjing.model.decoder import Decoder
from longjing.model.layers.packed_linear import PackedLinear

SMALL = 20_000_000  # parameters; below, decoding gains little from a second thread


def is_small(model: Decoder) -> bool:
    """Whether a step of decoding with the model is mostly overhead, and not arithmetic: by its numbers, each counted
    once, whatever keeps them."""
    kept = [*model.parameters(), *model.buffers()]  # quantised weights are buffers
    packed = {name: part.shape.numel() for name, part in model.named_modules() if isinstance(part, PackedLinear)}
    if model.config.tie_word_embeddings:  # they are among the parameters
        packed.pop("lm_head.weight", None)
    return sum(tensor.numel() for tensor in kept) + sum(packed.values()) < SMALL


def decoding_threads(small: bool) -> int:
    """How many of this process's threads decoding should take, for a model that is `small` or isn't."""
    return 1 if small else torch.get_num_threads()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """While the block runs, PyTorch computes on at most `count` threads."""
    before = torch.get_num_threads()
    if count >= before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
