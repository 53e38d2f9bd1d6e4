"""How much memory a program and all it has started hold together, which no rlimit counts."""

from pathlib import Path


def memory_held(first: int) -> int:
    """Bytes of memory that process `first` and its descendants hold, shared pages divided among those that share them.

    The working directory must be a `/proc`. What ends meanwhile counts as nothing.
    """
    total, processes = 0, [Path(str(first))]
    while processes:
        process = processes.pop()
        try:
            rollup = Path(process, "smaps_rollup").read_bytes().splitlines()
            total += next((int(line.split()[1]) << 10 for line in rollup if line.startswith(b"Pss:")), 0)
            for thread in Path(process, "task").iterdir():  # a child is listed with the thread that forked it
                processes += map(Path, Path(thread, "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # gone, or just about to change its user
    return total
