"""How fast this machine can possibly be: its matrix products and its memory, measured in under two
seconds."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

_SECONDS = 0.5  # for each of the two measurements


@dataclass(frozen=True)
class Machine:
    """`matmul`: FLOP/s of large square products in `dtype`; `bandwidth`: bytes/s of reading `working_set`
    bytes."""

    device: str
    name: str
    dtype: str
    threads: int
    matmul: float
    bandwidth: float
    working_set: int

    def floor(self, flops: float, bytes_read: float) -> float:
        """Seconds that this much work takes at least: the slower of computing and reading, perfectly
        overlapped."""
        return max(flops / self.matmul, bytes_read / self.bandwidth)


def measure(
    device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, working_set: int = 2**28
) -> Machine:
    """Measure medians of repeated products and reads.

    `working_set`: bytes read over and over. By default more than most caches hold, so that it is the memory
    that is measured; a small model lives in the cache, and its floor is the speed of reading as much as its
    weights take.
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
        name=name_of(device),
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        matmul=2 * size**3 / seconds,
        bandwidth=memory.nbytes / reading,
        working_set=memory.nbytes,
    )


def _median(work: Callable[[], object], device: torch.device) -> float:
    """Median seconds of `work`, over as many calls as there is time for, after one to warm up and at least
    five."""
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


def name_of(device: torch.device) -> str:
    """The device's, or of `cpu` the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if device.type == "cpu" and info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if models:
            return models[0]
    return platform.processor() or platform.machine()
