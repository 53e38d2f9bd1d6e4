"""How much memory a program and all it has started hold together, which no rlimit counts."""

import os


def memory_held(first: int, proc: int) -> int:
    """Bytes of memory that process `first` and its descendants hold, shared pages divided among those that share them.

    `proc` is a descriptor of `/proc`. What ends meanwhile counts as nothing.
    """
    total, processes = 0, [first]
    while processes:
        process = processes.pop()
        try:
            total += _proportional_set_size(_read(f"{process}/smaps_rollup", proc))
            for thread in _list(f"{process}/task", proc):
                processes += map(int, _read(f"{process}/task/{thread}/children", proc).split())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone, or just about to change its user
    return total


def _proportional_set_size(rollup: bytes) -> int:
    for line in rollup.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _read(path: str, proc: int) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        content = b""
        while chunk := os.read(file, 1 << 16):
            content += chunk
        return content
    finally:
        os.close(file)


def _list(path: str, proc: int) -> list[str]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)
