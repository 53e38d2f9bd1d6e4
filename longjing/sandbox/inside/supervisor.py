"""One program from its request to its outcome: fresh namespaces, a first process in them, and a watch over it.

    zygote ── supervisor ── first process ── program ── whatever it starts
              outside       pid 1 of the new namespaces, confined like the program

The supervisor is forked for this one request. It stays outside of the pid namespace, keeps the time and the output,
and kills the first process at the end; the kernel then kills all others in the namespace.
"""

import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import monotonic

from . import frames
from .confine import Plan, confine
from .file_system import mount_working_directory
from .frames import Limits
from .linux import unmount, unshare
from .memory import memory_held
from .user_namespace import USER, write_id_maps

_TICK = 0.05  # seconds between two looks at the memory
_DESCRIPTORS = 1 << 20  # at least as many as any process has
_NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")


@dataclass
class RunResult:
    """What became of a program: `status` as in `ExecutionResult`, or "failed", with the reason: nothing was run."""

    status: str = "finished"
    reason: str = ""
    code: int | None = None
    signal: str | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


def supervise(connection: socket.socket, plan: Plan, owner: int) -> list[str] | None:
    """Run what the connection asks for, answer, and end this process.

    Returns only in the process that is to become the program: its command, or None for the Python source.
    """
    header, (stdin, *contents) = frames.receive(connection)
    limits, command = Limits(**header["limits"]), header["command"]
    try:
        unshare(*(name for name in _NAMESPACES if plan.has(name)))
        if plan.has("uts"):
            socket.sethostname("sandbox")
        mount_working_directory(dict(zip(header["files"], contents, strict=True)), owner, limits.disk_megabytes)
    except OSError as error:
        frames.send(connection, asdict(RunResult("failed", str(error))), b"", b"")
        os._exit(1)
    # A file and no pipe: whoever writes a pipe would have to wait for a program that doesn't read.
    stdin_file = os.memfd_create("stdin")
    os.write(stdin_file, stdin)
    os.lseek(stdin_file, 0, os.SEEK_SET)
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    # From the first process: when it is in its user namespace, what became of the program.
    status_read, status_write = os.pipe()
    mapped_read, mapped_write = os.pipe()  # to it: its users are given
    if not (first_process := os.fork()):
        return _first_process(command, plan, limits, (stdin_file, out_write, err_write), status_write, mapped_read)
    for descriptor in (stdin_file, out_write, err_write, status_write, mapped_read):
        os.close(descriptor)
    os.chdir("/proc")  # where it stays, though the mount point is about to be taken from the program, and from here
    # Somebody outside has to say who its users are: a process inside may map itself only.
    if os.read(status_read, 1) == b"n":
        write_id_maps(first_process, f"{USER} {owner} 1", f"{USER} {owner} 1")
        if plan.has("proc"):
            unmount("/proc")
        os.write(mapped_write, b"g")
    supervisor = _Supervisor(first_process, limits, out_read, err_read, status_read)
    memory = (lambda: memory_held(first_process)) if plan.has("watch") else None
    supervisor.watch(connection, memory)
    frames.send(connection, asdict(supervisor.end()), bytes(supervisor.stdout), bytes(supervisor.stderr))
    os._exit(0)


def _first_process(
    command: list[str] | None, plan: Plan, limits: Limits, streams: tuple[int, ...], status_write: int, mapped_read: int
) -> list[str] | None:
    """The first process: confine oneself, fork the program, bury what dies, tell how the program ended."""
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    os.dup2(status_write, 3)  # below 5, so that all from there on can be closed at once
    os.dup2(mapped_read, 4)
    status_write, mapped_read = 3, 4
    if plan.has("descriptors"):
        os.closerange(5, _DESCRIPTORS)
    try:
        unshare("user")
        os.write(status_write, b"n")
        if os.read(mapped_read, 1) != b"g":
            os._exit(1)
        confine(plan, limits)
        program = os.fork()
    except OSError as error:
        os.write(status_write, f"e{error}".encode())
        os._exit(1)
    if not program:
        if plan.has("descriptors"):
            os.closerange(3, _DESCRIPTORS)
        return command
    while True:
        # The first process of a pid namespace inherits all orphans in it, and has to bury them.
        process, status = os.waitpid(-1, 0)
        if process == program:
            os.write(status_write, f"d{status}".encode())
            os._exit(0)


class _Supervisor:
    def __init__(self, first_process: int, limits: Limits, out_read: int, err_read: int, status_read: int) -> None:
        self._first_process, self._limits, self._status = first_process, limits, status_read
        self._streams = {out_read: bytearray(), err_read: bytearray()}
        self.stdout, self.stderr = self._streams.values()
        self._started = monotonic()
        self._stopped = ""  # why, if the program didn't end by itself
        self._peak = 0

    def watch(self, connection: socket.socket, memory: Callable[[], int] | None) -> None:
        """Return when the program has ended, or has to."""
        poller = select.poll()
        for descriptor in (*self._streams, self._status):
            poller.register(descriptor, select.POLLIN)
        poller.register(connection, select.POLLRDHUP)  # a trainer that was killed doesn't wait for the answer
        deadline = self._started + self._limits.wall_seconds
        look = self._started + _TICK
        while not self._stopped:
            now = monotonic()
            if now >= deadline:
                self._stopped = "timed out"
            elif memory and now >= look:
                look = now + _TICK
                self._peak = max(self._peak, memory())
                # Of all processes together: the kernel's own limit is on each, and a program may fork.
                if self._peak > self._limits.memory_megabytes << 20:
                    self._stopped = "out of memory"
            for descriptor, _ in poller.poll(1000 * max(0, min(deadline, look) - now)):
                if descriptor not in self._streams:
                    return  # the program has ended, or nobody wants to know any more
                if not self._read_output(descriptor):
                    poller.unregister(descriptor)

    def end(self) -> RunResult:
        """Kill whatever is left, and say what became of the program."""
        wall = monotonic() - self._started
        # Not the program, which might have children: with the first process all of the namespace die.
        os.kill(self._first_process, signal.SIGKILL)
        _, _, usage = os.wait4(self._first_process, 0)  # returns when all of the pid namespace are gone
        for stream in self._streams:
            os.set_blocking(stream, False)
            while not self._stopped and self._read_output(stream):
                pass
        os.set_blocking(self._status, False)
        result = self._parse_status(os.read(self._status, 1 << 16))
        result.wall_seconds, result.cpu_seconds = wall, usage.ru_utime + usage.ru_stime
        result.peak_bytes = max(self._peak, usage.ru_maxrss << 10)
        # The kernel kills at the hard limit whoever has caught the soft one's SIGXCPU.
        if result.signal == "SIGKILL" and result.cpu_seconds >= self._limits.cpu_seconds:
            result.status = "timed out"
        return result

    def _read_output(self, stream: int) -> bool:
        """Read some of the output; False at its end, or where none waits."""
        try:
            chunk = os.read(stream, 1 << 16)
        except BlockingIOError:
            return False
        kept = self._streams[stream]
        kept += chunk[: self._limits.output_bytes - len(kept)]
        room = self._limits.output_bytes - sum(map(len, self._streams.values()))
        if room < 0 or len(kept) == self._limits.output_bytes:
            self._stopped = "output too long"
        return bool(chunk)

    def _parse_status(self, message: bytes) -> RunResult:
        if self._stopped:
            return RunResult(self._stopped)
        if not message.startswith(b"d"):
            return RunResult("failed", message.removeprefix(b"e").decode() or "the first process ended")
        status = int(message[1:])
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return RunResult("timed out" if name == "SIGXCPU" else "killed", signal=name)
        last = self.stderr.rstrip().rpartition(b"\n")[2]
        # Python says so itself; a program that only pretends harms nobody but itself.
        exhausted = status and last.startswith(b"MemoryError")
        return RunResult("out of memory" if exhausted else "finished", code=os.waitstatus_to_exitcode(status))
