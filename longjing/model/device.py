"""Which device and which number format, by the names that the commands take."""

import ctypes
import platform
from pathlib import Path

import torch

from longjing.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str = "auto") -> torch.device:
    """The device called `cpu`, `cuda` (or `cuda:1`), `mps`, or for `auto` the fastest that is there.

    Raises UserError if the device doesn't exist here.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_there in present.items() if is_there)
    kind, _, index = name.partition(":")
    if kind not in present or (index and not index.isdecimal()) or (index and kind != "cuda"):
        raise UserError(f"device {name!r} is not known; choose one of {', '.join(DEVICES)}")
    if not present[kind]:
        usable = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise UserError(f"device {name!r} is not usable with this machine and this PyTorch; usable: {usable}")
    if index and int(index) >= torch.cuda.device_count():
        raise UserError(f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA device(s)")
    return torch.device(name)


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it: a GPU of NVIDIA's or AMD's, or a CPU with AVX512_BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # unknown to some builds of PyTorch
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in probes)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The number format called `float32` or `bfloat16`, if `device` can compute in it."""
    if name not in DTYPES:
        raise UserError(f"dtype {name!r} is not known; choose one of {', '.join(DTYPES)}")
    if name == "bfloat16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UserError(f"{torch.cuda.get_device_name(device)} doesn't compute in bfloat16; choose float32")
    return DTYPES[name]


def device_name(device: torch.device) -> str:
    """The device's, or of `cpu` the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if device.type == "cpu" and info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        if models:
            return models[0]
    return platform.processor() or platform.machine()


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, for a process that trains on the CPU.

    By default glibc returns every large block at once and asks for it again at the next step, and the kernel fills
    each page with zeros each time: a fifth of an update. `mallopt(3)`; elsewhere this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4
        library = ctypes.CDLL(None)
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)
