"""The system calls, by their numbers, and functions for those that Python has none for, by ctypes.

`syscalls.json` has the numbers of x86-64 and aarch64 (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h of Linux), in three lots: what a program in the sandbox may call, what it may call
with some arguments (`seccomp.py`), and what it may not. Whatever isn't listed it may not call either.
"""

import ctypes
import json
import os
import platform
from pathlib import Path

ARCHITECTURES = ("x86_64", "aarch64")  # the order of a row's numbers; null: it hasn't got the call
_TABLES: dict[str, dict[str, list[int | None]]] = json.loads(
    Path(__file__).with_name("syscalls.json").read_text("utf-8")
)
ALLOWED, CONDITIONAL, FORBIDDEN = _TABLES["allowed"], _TABLES["conditional"], _TABLES["forbidden"]
_ALL = ALLOWED | CONDITIONAL | FORBIDDEN
NEW_NAMESPACE = {
    "mount": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000,
    "pid": 0x20000000, "network": 0x40000000,
}  # fmt: skip
READ_ONLY, NO_SUID, NO_DEVICES, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_CAPABILITIES = 64  # more than any kernel has; those beyond its last are refused, which ends the loop

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def number(name: str, architecture: str) -> int:
    """The number of a system call. Raises OSError where the architecture is unknown or hasn't got it."""
    entry = dict(zip(ARCHITECTURES, _ALL[name], strict=True)).get(architecture)
    if entry is None:
        raise OSError(f"{name}: no such system call known on {architecture}")
    return entry


def libc(name: str, *arguments: int | bytes | None | ctypes.Array[ctypes.c_char]) -> int:
    """Call a function of the C library. Raises OSError, naming the function, where it returns -1."""
    result = getattr(_libc, name)(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return int(result)


def syscall(name: str, *arguments: int | bytes | None | ctypes.Array[ctypes.c_char]) -> int:
    """Call the kernel where the C library has no function. Raises OSError, naming the call."""
    call = number(name, platform.machine())
    try:
        return libc("syscall", call, *arguments)
    except OSError as error:
        raise OSError(error.errno, f"{name}: {os.strerror(error.errno or 0)}") from None


def unshare(*names: str) -> None:
    """Move to new namespaces; a new pid namespace is entered by the next child."""
    libc("unshare", sum(NEW_NAMESPACE[name] for name in names))


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, options: str = "") -> None:
    libc("mount", source.encode(), target.encode(), kind.encode() if kind else None, flags, options.encode())


def unmount(target: str) -> None:
    """Take away a mount and all below it, though files of it may be open."""
    libc("umount2", target.encode(), _DETACH)


def restrict_mount(target: str, attributes: int, recursive: bool) -> None:
    """Add READ_ONLY, NO_SUID or NO_DEVICES to a mount (mount_setattr, Linux 5.12)."""
    structure = b"".join(value.to_bytes(8, "little") for value in (attributes, 0, 0, 0))
    flags = _AT_RECURSIVE if recursive else 0
    syscall("mount_setattr", _AT_FDCWD, target.encode(), flags, structure, len(structure))


def prctl(option: int, *arguments: int) -> None:
    libc("prctl", option, *(*arguments, 0, 0, 0, 0)[:4])  # some options refuse what isn't 0 behind their arguments


def forbid_new_privileges() -> None:
    """No program that is executed from here on gains anything by its set-user-id bit or file capabilities."""
    prctl(38, 1)


def drop_capabilities() -> None:
    """Give up every capability, and the means to get one back. Raises OSError."""
    for capability in range(_CAPABILITIES):
        try:
            prctl(24, capability)
        except OSError:
            if not capability:
                raise
            break
    prctl(47, 4)  # the ambient set
    header = (0x20080522).to_bytes(4, "little") + bytes(4)
    syscall("capset", header, bytes(24))
