"""How fast this machine can possibly be: its matrix products and its memory, measured in under two seconds; and how
much memory decoding has to read at least."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import torch

from longjing.model.config import ModelConfig
from longjing.model.device import device_name
from longjing.planning import flops

_SECONDS = 0.5  # for each of the two measurements


@dataclass(frozen=True)
class Machine:
    """`matmul`: FLOP/s of large square products in `dtype`; `bandwidth`: bytes/s of reading `working_set` bytes."""

    device: str
    name: str
    dtype: str
    threads: int
    matmul: float
    bandwidth: float
    working_set: int

    def floor(self, flops: float, bytes_read: float) -> float:
        """Seconds that this much work takes at least: the slower of computing and reading, perfectly overlapped."""
        return max(flops / self.matmul, bytes_read / self.bandwidth)


def measure(
    device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, working_set: int = 2**28
) -> Machine:
    """Measure medians of repeated products and reads.

    `working_set`: bytes read over and over. By default more than most caches hold, so that it is the memory that is
    measured; a small model lives in the cache, and its floor is the speed of reading as much as its weights take.
    """
    device = torch.device(device)
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(left)
    seconds = _median(lambda: torch.mm(left, right, out=product), device)
    memory = torch.ones(max(working_set // 4, 1), device=device)
    reading = _median(memory.sum, device)
    return Machine(
        device=str(device),
        name=device_name(device),
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        matmul=2 * size**3 / seconds,
        bandwidth=memory.nbytes / reading,
        working_set=memory.nbytes,
    )


def _median(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of `work`, over as many calls as there is time for, after one to warm up and at least five."""
    _timed(work, device)
    times: list[float] = []
    while len(times) < 5 or sum(times) < _SECONDS and len(times) < 100:
        times.append(_timed(work, device))
    return median(times)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    started = perf_counter()
    work()
    synchronise(device)
    return perf_counter() - started


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def decoding_bytes(config: ModelConfig, batch: int, context: float, width: int = 2) -> float:
    """Bytes that one decoding step of `batch` sequences must read at least: weights once, and each one's cache.

    Of the routed experts only those that somebody takes are read; their number is what it would be if all were equally
    likely: E (1 - (1 - k/E)^batch).
    """
    weights = flops.parameters(replace(config, num_nextn_predict_layers=0))
    if not config.tie_word_embeddings:
        weights -= config.vocab_size * config.hidden_size  # the embedding is looked up, not read
    if config.n_routed_experts:
        idle = (1 - config.num_experts_per_tok / config.n_routed_experts) ** batch
        mixtures = sum(config.has_experts(layer) for layer in range(config.num_hidden_layers))
        expert = 3 * config.hidden_size * config.moe_intermediate_size
        weights -= round(idle * mixtures * config.n_routed_experts * expert)
    return weights * width + batch * context * flops.cache_bytes(config, width)
