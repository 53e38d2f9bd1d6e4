"""Commands on recipes and their runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import typer
from rich.console import Console

from longjing.cli.output import say, show_table
from longjing.errors import UserError

_START_SECONDS = 60.0  # that the page has until it listens


def run(
    recipe: Annotated[str, typer.Argument(help="a recipe's name (see `longjing recipes`) or its YAML file")],
    out: Annotated[
        Path | None, typer.Option(help="the run's directory; default runs/NAME, or runs/NAME-seed-N")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="in place of the recipe's")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="change a setting, e.g. steps=50 or STAGE.steps=50"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="every stage, scaled down to seconds")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="this stage alone; repeat for more")] = None,
    page: Annotated[
        bool, typer.Option("--page", help="a page to watch the run in and to talk to its model, if there is a display")
    ] = False,
) -> None:
    """Run a recipe, or go on with it: the same command resumes a run that was stopped.

    Ends with code 1 if a stage doesn't reach what its gate asks for.

    Examples:

        longjing run r1-zero

        longjing run r1-zero --seed 1 --out runs/another

        longjing run r1-zero --set task.difficulty=3 --set steps=50

        longjing run r1 --quick

        longjing run r1 --only rl-1 --set rl-1.model=runs/another

        longjing run r1-zero --page
    """
    from longjing.recipe.gates import GateClosed
    from longjing.recipe.loading import load
    from longjing.recipe.running import run_recipe

    console = Console()
    overrides = {"seed": seed, "device": device, "dtype": dtype}
    changes = [*(changes or []), *(f"{key}={value}" for key, value in overrides.items() if value is not None)]
    plan = load(recipe, changes, quick, only or ()).here()
    out = out or Path("runs") / (plan.name if seed is None else f"{plan.name}-seed-{seed}")
    say(console, f"{plan.name} in {out}: on {plan.device} in {plan.dtype}, CPU threads: {plan.threads}")
    try:
        with _page(out.parent, console) if page else nullcontext() as process:
            run_recipe(plan, out, console)
            if process is not None:
                say(console, f"Done. Report: {out / 'report.html'}. Talk to the model in the page; Ctrl-C closes it.")
                with suppress(KeyboardInterrupt):
                    process.wait()
                return
    except KeyboardInterrupt:
        say(console, f"Stopped; the same command goes on from the last saved step. So far: {out / 'report.html'}")
        raise typer.Exit(130) from None
    except GateClosed as closed:
        say(console, str(closed), "bold red")
        raise typer.Exit(1) from None
    say(console, f"Done. Report: {out / 'report.html'}")
    if plan.talks:
        say(console, f"Talk to the model: longjing chat {out}")


@contextmanager
def _page(folder: Path, console: Console) -> "Iterator[subprocess.Popen[bytes] | None]":
    """The page for the runs under `folder`, if a person can open a browser here; gives its process, which ends with
    the block. Raises UserError if it doesn't come up."""
    try:
        from longjing.serving.server import address, listen
    except ImportError as error:
        raise UserError(f"the page needs more packages ({error}): pip install 'longjing[serve]'") from error
    if sys.platform != "darwin" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with listen("127.0.0.1", 0) as free:
        url = address(free)
    command = ["serve", "--watch", "--runs", str(folder), "--port", url.rpartition(":")[2]]
    process = subprocess.Popen(
        [sys.executable, "-m", "longjing", *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        _wait_for(url, process)
        say(console, f"Watch it in a browser: {url}", "bold")
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_SECONDS
    opener = build_opener(ProxyHandler({}))  # it is on this machine
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"{url}/health", timeout=1):
                return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise UserError("the page doesn't come up; `longjing serve` says why")


def report(run: Annotated[Path, typer.Argument(help="the run's directory")]) -> None:
    """Write report.html of a run again, finished or not.

    Example:

        longjing report runs/r1-zero
    """
    from longjing.recipe.running import account
    from longjing.runs import RunDirectory

    account(RunDirectory(run))
    print(run / "report.html")


def recipes() -> None:
    """List the recipes that come with the package."""
    from longjing.recipe.loading import load, names

    show_table("recipes", [(name, load(name).description) for name in names()], Console())
