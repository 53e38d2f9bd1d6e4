"""Commands on tasks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Annotated, Literal

import typer
from rich.console import Console

from longjing.cli.models import Device, Dtype, load_engine
from longjing.cli.output import say, show_table

app = typer.Typer(no_args_is_help=True, help="Tasks whose answers can be checked: list, sample, check.")

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting of the task; repeat for more")
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="see `longjing tasks list`; problems.jsonl, my_task.py, package.module:Name, gym:NAME, verifiers:NAME",
    ),
]

_LINE_EVERY = 30.0  # seconds, where no bar is shown


@app.command(name="list")
def list_tasks() -> None:
    """List the tasks, each with its settings and their defaults."""
    from longjing import tasks

    rows = [
        (name, ", ".join(f"{key}={value}" for key, value in tasks.get(name).settings.items())) for name in tasks.names()
    ]
    show_table("tasks", rows, Console())


@app.command(name="sample")
def sample_task(
    name: Name,
    count: Annotated[int, typer.Option(min=1)] = 3,
    split: Annotated[Literal["train", "validation", "test"], typer.Option()] = "train",
    seed: int = 0,
    settings: Settings = None,
) -> None:
    """Show problems of a task, with an answer each.

    Example:

        longjing tasks sample countdown --set difficulty=3 --count 5

        longjing tasks sample problems.jsonl --set verifier=math
    """
    from longjing import tasks
    from longjing.recipe.loading import parse_settings

    task = tasks.get(name, **parse_settings(settings or []))
    for problem in islice(task.problems(split, seed), count):
        print(f"{problem.prompt}\n=> {problem.answer}\n")


@app.command(name="check")
def check_task(
    name: Name,
    problems: Annotated[int, typer.Option(min=1, help="of each split")] = 200,
    seed: int = 0,
    settings: Settings = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="that a verdict may take; more than the verifier's own limit")
    ] = 20.0,
    total_seconds: Annotated[float, typer.Option(min=1, help="that all checks may take together")] = 1800.0,
    model: Annotated[
        str | None, typer.Option(help="also measure how hard the task is for this model: a run, a directory, a name")
    ] = None,
    groups: Annotated[int, typer.Option(min=1, help="problems to measure the model on")] = 32,
    group_size: Annotated[int, typer.Option(min=2, help="its answers to each")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="its longest answer")] = 512,
    instruction: Annotated[
        str | None, typer.Option(help="said behind each problem; default: the form, to models not trained here")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Find out whether a task is fit to learn from, before money is spent: right answers, wrong ones, and the hacks
    that policies find. Exit code 1 if a check failed.

    Examples:

        longjing tasks check countdown --set difficulty=4

        longjing tasks check problems.jsonl --set verifier=math

        longjing tasks check my_task.py --model base
    """
    from longjing import tasks
    from longjing.recipe.loading import parse_settings
    from longjing.tasks.linter import check

    task_settings = parse_settings(settings or [])
    with _checks_shown() as show:
        report = check(partial(tasks.get, name, **task_settings), problems, seed, seconds, total_seconds, show)
    if model is not None:
        from longjing.learning.difficulty import measure

        task = tasks.get(name, **task_settings)
        engine, tokenizer = load_engine(model, device, dtype, Console(stderr=True))
        measured = measure(engine, tokenizer, task, groups, group_size, max_tokens, seed, instruction)
        report.findings.append(measured.finding(model))
    marks = {"ok": "ok", "warning": "WARNING", "failed": "FAILED"}
    show_table(name, [(marks[finding.status], finding.check, finding.says) for finding in report.findings], Console())
    count = {status: sum(finding.status == status for finding in report.findings) for status in marks}
    print(f"{count['failed']} failed, {count['warning']} warnings, {count['ok']} ok")
    raise typer.Exit(not report.ok)


@contextmanager
def _checks_shown() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal; in a log a line every half minute."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    description = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), description)
    latest = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("")

        def show(done: int, of: int, what: str) -> None:
            nonlocal latest
            bars.update(bar, completed=done, total=of, description=what)
            if not console.is_terminal and time.monotonic() - latest > _LINE_EVERY:
                latest = time.monotonic()
                say(console, f"check {done + 1} of {of}: {what}")

        yield show
