"""Tries each layer in a child that is thrown away; prints a JSON object, layer to "" or what failed."""

import json
import os
import platform
from collections.abc import Callable

from . import landlock, linux, seccomp
from .user_namespace import enter_user_namespace


def main() -> None:
    layers: dict[str, Callable[[], object]] = {
        "user": enter_user_namespace,
        "mount": _mount,
        **{name: _namespace(name) for name in ("pid", "network", "ipc", "uts", "cgroup")},
        "seccomp": _seccomp,
        "privileges": _privileges,
        "landlock": _landlock,
        "watch": _watch,
    }
    print(json.dumps({name: _try(attempt) for name, attempt in layers.items()}))


def _try(attempt: Callable[[], object]) -> str:
    """What went wrong in a child that tried; "" if nothing did."""
    pipe_read, pipe_write = os.pipe()
    if not (child := os.fork()):
        try:
            attempt()
        except OSError as error:
            os.write(pipe_write, str(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(pipe_write)
    problem = os.read(pipe_read, 1 << 12).decode()
    os.close(pipe_read)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return problem or (f"the child that tried ended with {code}" if code else "")


def _mount() -> None:
    enter_user_namespace()
    linux.unshare("mount")
    linux.mount("none", "/", None, linux.RECURSIVE | linux.PRIVATE)
    linux.mount("tmpfs", "/tmp", "tmpfs", linux.NO_SUID | linux.NO_DEVICES, "size=4k")
    linux.restrict_mount("/tmp", linux.READ_ONLY, recursive=True)


def _namespace(name: str) -> Callable[[], None]:
    def attempt() -> None:
        enter_user_namespace()
        linux.unshare(name)
        if not (child := os.fork()):
            os._exit(0)  # the first of a new pid namespace, say
        os.waitpid(child, 0)

    return attempt


def _seccomp() -> None:
    linux.forbid_new_privileges()
    seccomp.install(platform.machine())
    try:
        linux.syscall("ptrace", 0)
    except OSError as error:
        if error.errno == seccomp.REFUSE & 0xFFFF:
            return
    raise OSError("the filter was taken and filters nothing")


def _privileges() -> None:
    enter_user_namespace()
    linux.drop_capabilities()
    linux.forbid_new_privileges()


def _landlock() -> None:
    abi = landlock.version()
    linux.forbid_new_privileges()
    landlock.restrict("/dev", [])
    try:
        os.listdir("/")
    except PermissionError:
        return
    raise OSError(f"ABI {abi} was taken and restricts nothing")


def _watch() -> None:
    for name in ("smaps_rollup", f"task/{os.getpid()}/children"):
        with open(f"/proc/self/{name}") as file:
            file.read()
