"""The numbers of the system calls, of x86-64 and aarch64 (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux), in three lots: what a program in the sandbox may call, what it may call
with some arguments (`seccomp.py`), and what it may not. Whatever isn't listed it may not call either.
"""

import json
from pathlib import Path

ARCHITECTURES = ("x86_64", "aarch64")  # the order of a row's numbers; null: it hasn't got the call
_TABLES: dict[str, dict[str, list[int | None]]] = json.loads(
    Path(__file__).with_name("syscalls.json").read_text("utf-8")
)
ALLOWED, CONDITIONAL, FORBIDDEN = _TABLES["allowed"], _TABLES["conditional"], _TABLES["forbidden"]
_ALL = ALLOWED | CONDITIONAL | FORBIDDEN


def number(name: str, architecture: str) -> int:
    """The number of a system call. Raises OSError where the architecture is unknown or hasn't got it."""
    if architecture in ARCHITECTURES:
        entry = _ALL[name][ARCHITECTURES.index(architecture)]
        if entry is not None:
            return entry
    raise OSError(f"{name}: no such system call known on {architecture}")


def allowed(architecture: str) -> list[int]:
    """The numbers of what may be called whatever the arguments."""
    numbers = (row[ARCHITECTURES.index(architecture)] for row in ALLOWED.values())
    return [number for number in numbers if number is not None]
