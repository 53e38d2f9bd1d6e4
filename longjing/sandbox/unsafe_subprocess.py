"""What `--unsafe` asks for by its full name: a plain subprocess, for a machine that can't isolate."""

import os
import signal
import sys
from resource import RUSAGE_CHILDREN, getrusage
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from time import perf_counter

from longjing.sandbox.execution import ExecutionResult, Files, Program, SandboxLimits, write_files


class UnsafeSubprocess:
    """Runs programs with all that the user may do. Of the limits it keeps the wall clock's, for the program's process
    group, and cuts the output to `output_bytes` after the fact."""

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        self.limits = limits or SandboxLimits()

    def run(
        self, program: Program, stdin: bytes = b"", files: Files | None = None, seconds: float | None = None
    ) -> ExecutionResult:
        """What came of a program that nothing confines (see `Sandbox.run`)."""
        with TemporaryDirectory() as folder:
            write_files(folder, program, files)
            if isinstance(program, str):
                program = [sys.executable, "program.py"]
            before, started = getrusage(RUSAGE_CHILDREN), perf_counter()
            environment = {**os.environ, "PYTHONINTMAXSTRDIGITS": "0"}
            process = Popen(
                program, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=folder, start_new_session=True, env=environment
            )
            timed_out = False
            try:
                stdout, stderr = process.communicate(stdin, timeout=self.limits.within(seconds).wall_seconds)
            except TimeoutExpired:
                timed_out = True
                os.killpg(process.pid, signal.SIGKILL)
                stdout, stderr = process.communicate()
            wall, after = perf_counter() - started, getrusage(RUSAGE_CHILDREN)
        code = process.returncode
        killed = signal.Signals(-code).name if code < 0 and not timed_out else None
        limit = self.limits.output_bytes
        return ExecutionResult(
            status="timed out" if timed_out else "killed" if killed else "finished",
            code=code if code >= 0 and not timed_out else None,
            signal=killed,
            stdout=stdout[:limit],
            stderr=stderr[:limit],
            wall_seconds=wall,
            cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            peak_bytes=after.ru_maxrss << 10,
        )
