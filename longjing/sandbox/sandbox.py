"""The sandbox: hands programs to a zygote, a process apart that forks an isolated child for each of them."""

import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Self

from longjing.errors import UserError
from longjing.sandbox.execution import ExecutionResult, Files, Program, SandboxError, SandboxLimits, working_files
from longjing.sandbox.inside import frames
from longjing.sandbox.inside.file_system import WORK
from longjing.sandbox.isolation import WAYS_OUT, require_layers

_PYTHON = Path(sys.executable).resolve()
# The whole environment of a program. Hash seeds are fixed: the same program is to say the same twice.
ENVIRONMENT = {
    "PATH": f"/usr/bin:/bin:{_PYTHON.parent}", "HOME": WORK, "TMPDIR": WORK, "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2",
    "PYTHONINTMAXSTRDIGITS": "0",  # time is bounded anyway
}  # fmt: skip
_START_SECONDS = 60.0  # seconds that the zygote may take to be ready
_GRACE_SECONDS = 30.0  # seconds beside the program's own that a run may take on a busy machine


class Sandbox:
    """Runs programs of which nobody knows what they do. Any number of threads may use it at once.

    `readable` files and folders of the machine are shown beside Python's library and `/usr`, read-only. Raises
    UserError where the machine can't isolate: no isolation, no execution. A context manager: closing ends the
    process behind it.
    """

    def __init__(
        self,
        limits: SandboxLimits | None = None,
        readable: Sequence[Path] = (),
        *,
        _without: Sequence[str] = (),  # layers, for tests that show what each of them stops
    ) -> None:
        self.limits = limits or SandboxLimits()
        plan = {
            "readable": [*_readable_paths(), *map(os.path.abspath, readable)],
            "hidden": [sysconfig.get_path("platlib", vars=_base_installation())],
        }
        self._plan = json.dumps(plan | {"without": [*require_layers(), *_without]})
        self._inherited = dict(os.environ) if "environment" in _without else {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote. Programs that run have a supervisor each, and end as they would have."""
        with self._lock:
            self._stop()

    def run(
        self, program: Program, stdin: bytes = b"", files: Files | None = None, seconds: float | None = None
    ) -> ExecutionResult:
        """Run Python source, or a command, in an empty working directory that holds `files` only.

        Raises UserError for a file that wouldn't lie in the working directory; SandboxError if the sandbox failed.
        """
        files = working_files(program, files)
        header = {
            "command": None if isinstance(program, str) else program,
            "limits": asdict(self.limits.within(seconds)),
            "files": [*files],
        }
        # A connection for each run: what one program's supervisor sends can't be taken for another's.
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(self.limits.wall_seconds + _GRACE_SECONDS)
            with theirs:
                self._send_to_zygote(theirs)
            try:
                frames.send(ours, header, stdin, *files.values())
                end, (stdout, stderr) = frames.receive(ours)
            except (OSError, frames.Broken) as error:
                raise SandboxError(f"the sandbox gave no answer: {error}") from None
        if end["status"] == "failed":
            raise SandboxError(f"the sandbox couldn't be set up: {end['reason']}")
        del end["reason"]
        return ExecutionResult(stdout=stdout, stderr=stderr, **end)

    def _send_to_zygote(self, connection: socket.socket) -> None:
        with self._lock:
            if self._process is None:
                self._start()
            try:
                socket.send_fds(self._control, [b"r"], [connection.fileno()])
            except OSError as error:
                self._stop()  # the next run starts another
                raise SandboxError(f"the sandbox's zygote is gone: {error}") from None

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_START_SECONDS)
        folder = str(Path(__file__).parent)
        start = f"import sys; sys.path.insert(0, {folder!r}); from inside.zygote import main; main()"
        command = [str(_PYTHON), "-sSPB", "-c", start, str(theirs.fileno()), self._plan]
        environment, shared = self._inherited | ENVIRONMENT, [theirs.fileno()]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, pass_fds=shared, env=environment, cwd="/"
            )
        self._finalize = weakref.finalize(self, _end_process, self._process, self._control)
        try:
            answer = self._control.recv(1 << 16)
        except TimeoutError:
            answer = b"it took over a minute to start"
        if answer != b"ready":
            self._process.kill()
            errors = self._process.communicate()[1].decode(errors="replace").strip()
            self._stop()
            reason = answer.decode(errors="replace") or errors.rpartition("\n")[2] or "no reason given"
            raise UserError(
                f"the sandbox can't be set up here: {reason}; `longjing sandbox check` says what is missing, "
                f"and {WAYS_OUT}"
            )

    def _stop(self) -> None:
        if self._process is not None:
            self._finalize()
            self._process = None


def _end_process(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    control.close()  # at which it ends, too, if this process is killed
    process.kill()
    process.wait()


def _readable_paths() -> list[str]:
    """What of the machine a program sees: Python and its library, the system's programs and libraries, devices."""
    library = sysconfig.get_config_var("INSTSONAME") or ""
    platform_library = sysconfig.get_path("platstdlib", vars=_base_installation())
    python = [_PYTHON, sysconfig.get_path("stdlib"), platform_library]
    folders = (sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib")
    python += [Path(folder, library) for folder in folders if library.startswith("libpython")]
    system = ("/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
    devices = ("/dev/null", "/dev/zero", "/dev/urandom")
    return [*map(str, python), *system, *devices]


def _base_installation() -> dict[str, str]:
    """The installation itself, where this interpreter is a virtual environment's."""
    return {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
