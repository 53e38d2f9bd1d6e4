"""What a program may use, what it asks for, and what became of it."""

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from longjing.errors import UserError
from longjing.sandbox.inside.frames import Limits

Status = Literal["finished", "timed out", "out of memory", "output too long", "killed"]
Program = str | list[str]  # Python source, or a command
Files = dict[str, bytes]  # what the working directory holds, by relative names


class SandboxError(Exception):
    """The sandbox itself failed, and nothing is known about the program: a verdict on it is `unjudged`."""


@dataclass(frozen=True)
class SandboxLimits(Limits):
    """What one program may use (`Limits` has the fields and what holds without ado).

    `memory_megabytes` of address space for each process, and of memory for all of them together, by a look every 50 ms;
    `output_bytes` of standard output and standard error together; `processes` and threads at a time.
    Raises UserError for a limit that isn't positive.
    """

    def within(self, seconds: float | None) -> "SandboxLimits":
        """These limits, with no more than these seconds of the wall clock."""
        return self if seconds is None else replace(self, wall_seconds=min(self.wall_seconds, seconds))

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise UserError(f"the sandbox's limit `{name}` is {value}; it must be positive")


@dataclass(frozen=True)
class ExecutionResult:
    """`finished`: the program ended by itself, with `code`. `killed`: by `signal`, the kernel's, its own or a trap of
    WebAssembly. The other statuses name the limit that ended it.

    `stdout` and `stderr` hold what was written, up to the limit; nothing in them is to be trusted. `peak_bytes` is
    the most memory that its largest process, or at one look all together, held, Python's own included.
    """

    status: Status
    code: int | None
    signal: str | None
    stdout: bytes
    stderr: bytes
    wall_seconds: float
    cpu_seconds: float  # of all its processes that it waited for or that were killed at its end
    peak_bytes: int

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself, and well."""
        return self.code == 0

    def __str__(self) -> str:
        if self.status == "killed":
            return f"killed by {self.signal}"
        return f"{self.status} with exit code {self.code}" if self.status == "finished" else self.status


class SandboxRunner(Protocol):
    """Whatever runs a program: a sandbox, or what a user has put in its place with `--unsafe`."""

    def run(
        self, program: Program, stdin: bytes = b"", files: Files | None = None, seconds: float | None = None
    ) -> ExecutionResult:
        """`seconds`: of the wall clock, where that is less than the limits allow."""


def working_files(program: Program, files: Files | None) -> Files:
    """All that a working directory holds, the source of a program as `program.py` among it. Raises UserError for a name
    that would lie elsewhere."""
    for name in files or {}:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
            raise UserError(f"{name!r} isn't a name for a file of a program; give a relative one, without `..`")
    source = {} if isinstance(program, list) else {"program.py": program.encode("utf-8", "surrogatepass")}
    return {**(files or {}), **source}


def write_files(folder: str, program: Program, files: Files | None) -> None:
    """Lay the `working_files` into a folder."""
    for name, content in working_files(program, files).items():
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def printable(output: bytes) -> str:
    """Output as text that a terminal shows and doesn't obey: control characters but newline and tab are escaped, and so
    are those that change the direction of the text."""
    text = output.decode("utf-8", errors="backslashreplace").replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or c.isprintable() else ascii(c)[1:-1] for c in text)
