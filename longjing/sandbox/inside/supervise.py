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
from .confine import Bounds, Plan, confine
from .identity import USER, give_users
from .system import close_from, unmount, unshare
from .view import furnish
from .watch import held

_TICK = 0.05  # seconds between two looks at the memory
_NAMESPACES = ("mount", "pid", "network", "ipc", "uts", "cgroup")


@dataclass
class Ended:
    """What became of a program: `status` as in `sandbox.Outcome`, or "failed", with the reason: nothing was run."""

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
    bounds, command = Bounds(**header["bounds"]), header["command"]
    try:
        unshare(*(name for name in _NAMESPACES if plan.has(name)))
        if plan.has("uts"):
            socket.sethostname("sandbox")
        furnish(dict(zip(header["files"], contents, strict=True)), owner, bounds.disk_megabytes)
    except OSError as error:
        frames.send(connection, asdict(Ended("failed", str(error))), b"", b"")
        os._exit(1)
    given = os.memfd_create("stdin")
    os.write(given, stdin)
    os.lseek(given, 0, os.SEEK_SET)
    out, program_out = os.pipe()
    err, program_err = os.pipe()
    told, tell = (
        os.pipe()
    )  # from the first process: when it is in its user namespace, what became of the program
    wait, go = os.pipe()  # to it: its users are given
    if not (first := os.fork()):
        return _first(command, plan, bounds, (given, program_out, program_err), tell, wait)
    for descriptor in (given, program_out, program_err, tell, wait):
        os.close(descriptor)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    if os.read(told, 1) == b"n":
        give_users(first, f"{USER} {owner} 1", f"{USER} {owner} 1")
        if plan.has("proc"):
            unmount("/proc")
        os.write(go, b"g")
    supervisor = _Supervisor(first, bounds, out, err, told)
    memory = (lambda: held(first, proc)) if plan.has("watch") else None
    supervisor.watch(connection, memory)
    frames.send(connection, asdict(supervisor.end()), bytes(supervisor.stdout), bytes(supervisor.stderr))
    os._exit(0)


def _first(
    command: list[str] | None, plan: Plan, bounds: Bounds, streams: tuple[int, ...], tell: int, wait: int
) -> list[str] | None:
    """The first process: confine oneself, fork the program, bury what dies, tell how the program ended."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.dup2(tell, 3)
    os.dup2(wait, 4)
    tell, wait = 3, 4
    if plan.has("descriptors"):
        close_from(5)
    try:
        unshare("user")
        os.write(tell, b"n")
        if os.read(wait, 1) != b"g":
            os._exit(1)
        confine(plan, bounds)
        program = os.fork()
    except OSError as error:
        os.write(tell, f"e{error}".encode())
        os._exit(1)
    if not program:
        if plan.has("descriptors"):
            close_from(3)
        return command
    while True:
        process, status = os.waitpid(-1, 0)
        if process == program:
            os.write(tell, f"d{status}".encode())
            os._exit(0)


class _Supervisor:
    def __init__(self, first: int, bounds: Bounds, out: int, err: int, told: int) -> None:
        self._first, self._bounds, self._told = first, bounds, told
        self._streams = {out: bytearray(), err: bytearray()}
        self.stdout, self.stderr = self._streams.values()
        self._started = monotonic()
        self._stopped = ""  # why, if the program didn't end by itself
        self._peak = 0

    def watch(self, connection: socket.socket, memory: Callable[[], int] | None) -> None:
        """Return when the program has ended, or has to."""
        poller = select.poll()
        for descriptor in (*self._streams, self._told):
            poller.register(descriptor, select.POLLIN)
        poller.register(connection, select.POLLRDHUP)
        deadline = self._started + self._bounds.wall_seconds
        look = self._started + _TICK
        while not self._stopped:
            now = monotonic()
            if now >= deadline:
                self._stopped = "timed out"
            elif memory and now >= look:
                look = now + _TICK
                self._peak = max(self._peak, memory())
                if self._peak > self._bounds.memory_megabytes << 20:
                    self._stopped = "out of memory"
            for descriptor, _ in poller.poll(1000 * max(0, min(deadline, look) - now)):
                if descriptor not in self._streams:
                    return  # the program has ended, or nobody wants to know any more
                if not self._take(descriptor):
                    poller.unregister(descriptor)

    def end(self) -> Ended:
        """Kill whatever is left, and say what became of the program."""
        wall = monotonic() - self._started
        os.kill(self._first, signal.SIGKILL)
        _, _, usage = os.wait4(self._first, 0)  # returns when all of the pid namespace are gone
        for stream in self._streams:
            os.set_blocking(stream, False)
            while not self._stopped and self._take(stream):
                pass
        os.set_blocking(self._told, False)
        ended = self._read(os.read(self._told, 1 << 16))
        ended.wall_seconds, ended.cpu_seconds = wall, usage.ru_utime + usage.ru_stime
        ended.peak_bytes = max(self._peak, usage.ru_maxrss << 10)
        if ended.signal == "SIGKILL" and ended.cpu_seconds >= self._bounds.cpu_seconds:
            ended.status = "timed out"
        return ended

    def _take(self, stream: int) -> bool:
        """Read some of the output; False at its end, or where none waits."""
        try:
            some = os.read(stream, 1 << 16)
        except BlockingIOError:
            return False
        kept = self._streams[stream]
        kept += some[: self._bounds.output_bytes - len(kept)]
        room = self._bounds.output_bytes - sum(map(len, self._streams.values()))
        if room < 0 or len(kept) == self._bounds.output_bytes:
            self._stopped = "output too long"
        return bool(some)

    def _read(self, message: bytes) -> Ended:
        if self._stopped:
            return Ended(self._stopped)
        if not message.startswith(b"d"):
            return Ended("failed", message.removeprefix(b"e").decode() or "the first process ended")
        status = int(message[1:])
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return Ended("timed out" if name == "SIGXCPU" else "killed", signal=name)
        last = self.stderr.rstrip().rpartition(b"\n")[2]
        # Python says so itself; a program that only pretends harms nobody but itself.
        exhausted = status and last.startswith(b"MemoryError")
        return Ended("out of memory" if exhausted else "finished", code=os.waitstatus_to_exitcode(status))
