"""How a process gives up, step by step and for good, all that a program of a model shouldn't have."""

import os
import platform
import resource
from dataclasses import dataclass

from . import landlock, seccomp
from .file_system import WORK
from .frames import Limits
from .linux import prctl
from .user_namespace import become_user

_STACK = 64 << 20  # bytes of the main thread's
_SIGNALS = 64  # waiting ones, and timers


@dataclass(frozen=True)
class Plan:
    """What this machine's sandbox is made of, the same for all its programs.

    `without` names layers that are left out: because the machine lacks them, or so that a test can show what they stop.
    """

    readable: list[str]
    hidden: list[str]
    without: list[str]

    def has(self, layer: str) -> bool:
        return layer not in self.without


def confine(plan: Plan, limits: Limits) -> None:
    """Take this process, root of a user namespace of its own, down to what a program may be. Raises OSError."""
    become_user(plan.has("privileges"))
    prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: die with the parent; the change of user would have undone it
    os.setsid()
    os.chdir(WORK)
    os.umask(0o077)
    _set_rlimits(limits)
    if plan.has("landlock"):
        landlock.restrict(WORK, plan.readable)
    if plan.has("seccomp"):
        seccomp.install(platform.machine())


def _set_rlimits(limits: Limits) -> None:
    """Nobody can raise these again: that takes a capability of the machine's own user namespace."""
    rlimits = {
        resource.RLIMIT_AS: limits.memory_megabytes << 20,
        resource.RLIMIT_FSIZE: limits.disk_megabytes << 20,
        resource.RLIMIT_NOFILE: limits.descriptors,
        resource.RLIMIT_NPROC: limits.processes + 1,  # and the first process of the namespace
        resource.RLIMIT_STACK: _STACK,
        resource.RLIMIT_SIGPENDING: _SIGNALS,
        **dict.fromkeys((resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE), 0),
    }
    for kind, value in rlimits.items():
        resource.setrlimit(kind, (value, value))
    # One second between the signal that says what happened and the one that can't be ignored.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, limits.cpu_seconds + 1))
