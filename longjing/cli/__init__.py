"""The commands. Each parses, calls and prints; what they do lies in the rooms below.

Heavy imports are inside the commands, so that `longjing --help` answers at once.
"""

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from longjing import __version__
from longjing.cli import data, evaluation, models, runs, sandbox, serving, tasks
from longjing.errors import UserError

app = typer.Typer(
    name="longjing",
    help="Teach a small language model to reason, watch it learn, talk to it.\n\n"
    "Begin with:\n\n    longjing chat\n\n    longjing serve\n\n    longjing run r1-zero",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": runs.run, "report": runs.report, "export": models.export, "fetch": models.fetch, "chat": models.chat,
    "serve": serving.serve, "eval": evaluation.evaluate, "compare": evaluation.compare, "recipes": runs.recipes,
    "models": models.models,
}  # fmt: skip
for name, command in _COMMANDS.items():
    app.command(name)(command)


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="which Longjing this is, and end")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="with --version: of what this machine does, too")] = False,
) -> None:
    if version:
        print(f"longjing {__version__}")
        if verbose:
            _describe_machine()
        raise typer.Exit
    if verbose:
        raise UserError("--verbose goes with --version: longjing --version --verbose")


def _describe_machine() -> None:
    """Print Python, PyTorch, the processor, the device, the threads, and whether products are batch-invariant."""
    import platform

    import torch

    from longjing.model.batch_invariance_probe import describe_batch_invariance
    from longjing.model.device import choose_device, device_name

    threads = torch.get_num_threads()
    print(f"python {platform.python_version()}, torch {torch.__version__}")
    print(f"processor: {device_name(torch.device('cpu'))} ({platform.machine()}), {threads} thread(s)")
    print(f"device: {choose_device()}")
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        print(f"float32: {describe_batch_invariance()}")


app.add_typer(tasks.app, name="tasks")
app.add_typer(data.app, name="data")
app.add_typer(sandbox.app, name="sandbox")


def main() -> None:
    """Entry point: what a UserError says is for the person, anything else is a defect."""
    try:
        app(prog_name="longjing")
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(2)
