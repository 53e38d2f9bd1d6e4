"""What the program sees of the file system: a root of its own with a few things of the machine, read-only."""

import os
from collections.abc import Sequence
from pathlib import Path

from .linux import BIND, NO_DEVICES, NO_SUID, PRIVATE, READ_ONLY, RECURSIVE, mount, restrict_mount, syscall, unmount

WORK = "/box"  # the working directory, the only place to write
_MACHINE = "/.machine"  # where the machine's root is while the view is built
_BASE = "/tmp"  # covered, in this mount namespace only, by what becomes the root


def build_root(readable: Sequence[str], hidden: Sequence[str]) -> None:
    """Make the new root of this mount namespace: `readable` files and folders of the machine in their places, those of
    `hidden` that lie in them empty, a mount point for WORK, and the machine's `/proc` (taken away before a program
    runs). Raises OSError."""
    mount("none", "/", None, RECURSIVE | PRIVATE)
    mount("tmpfs", _BASE, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    os.mkdir(_BASE + _MACHINE)
    syscall("pivot_root", _BASE.encode(), (_BASE + _MACHINE).encode())
    os.chdir("/")
    for path in sorted(readable):
        _show(Path(path))
    for path in filter(os.path.isdir, hidden):
        mount("tmpfs", path, "tmpfs", READ_ONLY | NO_SUID | NO_DEVICES, "size=4k,mode=755")
    os.mkdir("/proc")
    mount(f"{_MACHINE}/proc", "/proc", None, BIND | RECURSIVE)
    os.mkdir(WORK)
    for name in ("/tmp", "/dev/shm"):
        if not os.path.lexists(name):  # what is shown may lie there
            os.symlink(WORK, name)
    unmount(_MACHINE)
    os.rmdir(_MACHINE)
    restrict_mount("/", READ_ONLY, recursive=False)


def _show(path: Path) -> None:
    source = Path(f"{_MACHINE}{path}")
    if os.path.lexists(path) or not os.path.lexists(source):
        return  # lies in something shown already, or this machine hasn't got it
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        path.symlink_to(os.readlink(source))
        return
    if source.is_dir():
        path.mkdir()
    else:
        path.touch()
    mount(str(source), str(path), None, BIND | RECURSIVE)
    device = NO_DEVICES if not source.is_char_device() else 0
    restrict_mount(str(path), READ_ONLY | NO_SUID | device, recursive=True)


def mount_working_directory(files: dict[str, bytes], owner: int, megabytes: int) -> None:
    """Mount an empty WORK of that size for one program, and lay its files there. Raises OSError."""
    options = f"size={megabytes}m,nr_inodes={1024 + 256 * megabytes},mode=700,uid={owner},gid={owner}"
    mount("tmpfs", WORK, "tmpfs", NO_SUID | NO_DEVICES, options)
    for name, content in files.items():
        path = Path(WORK, name)
        for parent in reversed(path.relative_to(WORK).parents[:-1]):
            folder = Path(WORK, parent)
            folder.mkdir(exist_ok=True)
            os.chown(folder, owner, owner)
        path.write_bytes(content)
        os.chown(path, owner, owner)
