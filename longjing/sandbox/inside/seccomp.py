"""The seccomp filter: which system calls reach the kernel at all.

An allow-list, since what a future kernel adds should be closed. What isn't on it answers as on a kernel that
hasn't got it (ENOSYS), so that libraries fall back to something older: from clone3, whose flags no filter can read,
to clone. A call by the numbers of another architecture kills.
"""

import ctypes
import errno
import struct
from dataclasses import dataclass

from .linux import ALLOWED, ARCHITECTURES, CONDITIONAL, NEW_NAMESPACE, number, prctl

ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.ENOSYS, 0x80000000
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_LOAD, _EQUAL, _AND, _RETURN = 0x20, 0x15, 0x54, 0x06

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


@dataclass(frozen=True)
class Check:
    """The low (or high) 32 bits of an argument, masked, must be one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    high: bool = False


_CHECKS: dict[str, tuple[Check, ...]] = {
    "clone": (Check(0, (0,), mask=sum(NEW_NAMESPACE.values())),),  # new threads and processes, no namespaces
    # A pair of connected streams, as asyncio wants, reaches nobody; datagrams could be sent to a third.
    "socketpair": (Check(0, (1,)), Check(1, (1,), mask=0xF)),
    "sendto": (Check(4, (0,)), Check(4, (0,), high=True)),  # send, without an address
    # Die with the parent, ask if dumpable, set and get the name, ask for a capability, name some memory.
    "prctl": (Check(0, (1, 3, 15, 16, 23, 0x53564D41)),),
    # isatty, the window's size, bytes to be read, non-blocking, close on exec or not: no typing into terminals.
    "ioctl": (Check(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),),
    "prlimit64": (Check(0, (0,)),),  # one's own only
}
assert _CHECKS.keys() == CONDITIONAL.keys()


def program(architecture: str) -> list[Instruction]:
    """The filter in classic BPF."""
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, _AUDIT[architecture]),
        # The numbers of another architecture mean other calls: the list below would allow who knows what.
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for row in ALLOWED.values():
        if (call := row[ARCHITECTURES.index(architecture)]) is not None:
            code += [(_EQUAL, 0, 1, call), (_RETURN, 0, 0, ALLOW)]
    for name, checks in _CHECKS.items():
        # A jump may skip 255 instructions at most; the longest of these bodies has a dozen.
        body = [instruction for check in checks for instruction in _check(check)]
        body.append((_RETURN, 0, 0, ALLOW))
        code += [(_EQUAL, 0, len(body), number(name, architecture)), *body]
    return [*code, (_RETURN, 0, 0, REFUSE)]


def _check(check: Check) -> list[Instruction]:
    load = (_LOAD, 0, 0, _ARGUMENTS + 8 * check.argument + 4 * check.high)  # little-endian, both of them
    count = len(check.values)
    compare = [(_EQUAL, count - index, 0, value) for index, value in enumerate(check.values)]
    return [load, (_AND, 0, 0, check.mask), *compare, (_RETURN, 0, 0, REFUSE)]


def install(architecture: str) -> None:
    """Filter this process and all it starts, from now on. Raises OSError."""
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program(architecture))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    program_pointer = ctypes.create_string_buffer(header, len(header))
    prctl(22, 2, ctypes.addressof(program_pointer))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
