"""Commands on the sandbox."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from longjing.cli.output import say, show_table
from longjing.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Where programs of a model run: what this machine offers, one program.")

Choice = Annotated[str, typer.Option(help="kernel or wasm; without it, what LONGJING_SANDBOX says, or kernel")]
_EXIT_CODES = {"timed out": 3, "out of memory": 4, "output too long": 5, "killed": 6}


@app.command(name="check")
def check_sandbox(sandbox: Choice = "") -> None:
    """Try each layer of the isolation, and then a program in it. Exit code 2 if programs can't run here.

    Examples:

        longjing sandbox check
        longjing sandbox check --sandbox wasm
    """
    from longjing.sandbox import layers, open_sandbox
    from longjing.sandbox.wasm import missing_packages

    rows = [("layer", "here", "without it")]
    for layer in layers():
        here = f"no: {layer.problem}" if layer.problem else "yes"
        lost = layer.lost if not layer.required else f"nothing runs; {layer.lost}"
        rows.append((layer.name, here, lost))
    show_table("sandbox", rows, Console(), header=True)
    say(Console(), f"--sandbox wasm (slower, asks nothing of the kernel): {missing_packages() or 'here'}")
    outcome = open_sandbox(name=sandbox).run("print(sum(range(10)))")
    print(f"a program ran in it: {outcome} after {1000 * outcome.wall_seconds:.0f} ms")
    raise typer.Exit(outcome.stdout != b"45\n")


@app.command(name="run")
def run_program(
    file: Annotated[Path, typer.Argument(help="a Python program")],
    stdin: Annotated[Path | None, typer.Option(help="what it reads from standard input")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="it may take, by the clock and of each CPU")] = 10.0,
    memory: Annotated[int, typer.Option(min=64, help="megabytes it may hold")] = 512,
    sandbox: Choice = "",
    unsafe: Annotated[bool, typer.Option("--unsafe", help="run it WITHOUT isolation, as yourself")] = False,
) -> None:
    """Run a Python program in isolation; show its output, what became of it and what it used.

    Exit code 0 if it ended well, 1 if it ended with an error, 3 if it timed out, 4 if it needed more memory,
    5 if it wrote too much, 6 if it was killed.

    Examples:

        longjing sandbox run program.py --stdin input.txt
        longjing sandbox run program.py --sandbox wasm
    """
    from longjing.sandbox import SandboxError, SandboxLimits, UnsafeSubprocess, open_sandbox, printable

    if unsafe and sandbox:
        raise UserError(f"--unsafe or --sandbox {sandbox}, not both")

    limits = SandboxLimits(seconds, max(1, round(seconds)), memory)
    program = _read(file).decode("utf-8", errors="surrogateescape")
    stdin_bytes = _read(stdin) if stdin else b""
    errors = Console(stderr=True)
    if unsafe:
        say(errors, "no isolation: this program may do all that you may", "bold red")
    runner = UnsafeSubprocess(limits) if unsafe else open_sandbox(limits, sandbox)
    try:
        outcome = runner.run(program, stdin_bytes)
    except SandboxError as error:
        raise UserError(f"{error}; `longjing sandbox check` tries each layer") from None
    print(printable(outcome.stdout), end="")
    print(printable(outcome.stderr), end="", file=sys.stderr)
    used = f"{outcome.wall_seconds:.2f} s, {outcome.cpu_seconds:.2f} s of CPU, {outcome.peak_bytes / 1e6:.0f} MB"
    say(errors, f"{outcome}; {used}")
    raise typer.Exit(_EXIT_CODES.get(outcome.status, int(not outcome.ok)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
