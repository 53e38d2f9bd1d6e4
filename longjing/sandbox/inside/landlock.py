"""Landlock: what files the program may use, whatever it still holds, and with whom it may talk.

The same that the mount and network namespaces say, said again by another part of the kernel.
"""

import os
from collections.abc import Sequence

from .linux import libc, syscall

# ABI 1 to 5 (Linux 5.13 to 6.10): what may be done with files, each ABI's count of rights.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NETWORK_RIGHTS, _SCOPES = 0b11, 0b11  # bind and connect TCP (ABI 4); abstract sockets and signals (ABI 6)
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14


def version() -> int:
    """The kernel's Landlock ABI. Raises OSError where there is none."""
    return syscall("landlock_create_ruleset", None, 0, 1)


def restrict(work: str, readable: Sequence[str]) -> None:
    """Confine this process: only what lies under `readable` may be read and executed, only `work` and `/dev/null`
    written. No TCP; no abstract socket or signal beyond this process and its children. Needs no_new_privs. Raises
    OSError."""
    abi = version()
    files = (1 << _FILE_RIGHTS[min(abi, 5)]) - 1
    handled = [files, *([_NETWORK_RIGHTS] if abi >= 4 else []), *([_SCOPES] if abi >= 6 else [])]
    attributes = b"".join(rights.to_bytes(8, "little") for rights in handled)
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    for path in readable:
        if os.path.isdir(path):
            _allow(ruleset, path, _READ | _LIST | _EXECUTE)
        elif os.path.exists(path):
            _allow(ruleset, path, _READ | _EXECUTE)
    _allow(ruleset, work, files)
    _allow(ruleset, "/dev/null", (_READ | _WRITE | _TRUNCATE) & files)
    syscall("landlock_restrict_self", ruleset, 0)
    libc("close", ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = rights.to_bytes(8, "little") + beneath.to_bytes(4, "little")
    syscall("landlock_add_rule", ruleset, 1, rule, 0)
    os.close(beneath)
