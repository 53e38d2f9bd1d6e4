"""Commands on tasks."""

import sys
from itertools import islice
from typing import Annotated, Literal

import typer
from rich.console import Console

from longjing.cli.printing import show_table

app = typer.Typer(no_args_is_help=True, help="Tasks whose answers can be checked: list, sample, check.")

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="a setting of the task; repeat for more"),
]


@app.command(name="list")
def list_tasks() -> None:
    """List the tasks, each with its settings and their defaults."""
    from longjing import tasks

    rows = [
        (name, ", ".join(f"{key}={value}" for key, value in tasks.get(name).settings.items()))
        for name in tasks.names()
    ]
    show_table("tasks", rows, Console())


@app.command(name="sample")
def sample_task(
    name: str,
    count: Annotated[int, typer.Option(min=1)] = 3,
    split: Annotated[Literal["train", "validation", "test"], typer.Option()] = "train",
    seed: int = 0,
    settings: Settings = None,
) -> None:
    """Show problems of a task, with an answer each.

    Example:

        longjing tasks sample countdown --set difficulty=3 --count 5
    """
    from longjing import tasks
    from longjing.recipe.loading import parse_settings

    task = tasks.get(name, **parse_settings(settings or []))
    for problem in islice(task.problems(split, seed), count):
        print(f"{problem.prompt}\n=> {problem.answer}\n")


@app.command(name="check")
def check_task(
    name: str,
    problems: Annotated[int, typer.Option(min=1, help="of each split")] = 200,
    seed: int = 0,
    settings: Settings = None,
) -> None:
    """Solve sampled problems with the task's own solver, judge the answers, and report.

    Example:

        longjing tasks check countdown --set difficulty=4
    """
    from longjing import tasks
    from longjing.recipe.loading import parse_settings
    from longjing.tasks.check import check

    result = check(tasks.get(name, **parse_settings(settings or [])), problems, seed)
    rows = [
        ("settings", ", ".join(f"{key}={value}" for key, value in result.settings.items())),
        ("problems", ", ".join(f"{count} {split}" for split, count in result.problems.items())),
        ("own answers judged correct", str(result.gold_correct)),
        ("solver's answers judged correct", str(result.solved)),
        ("other answers judged wrong", f"{result.wrong_found} of {result.wrong_tried}"),
        ("empty answers judged wrong", str(result.empty_found)),
        ("problems a second", f"{result.problems_per_second:,.0f}"),
        ("microseconds a verdict", f"{result.microseconds_per_verdict:.0f}"),
    ]
    show_table(name, rows, Console())
    for failure in result.failures:
        print(failure, file=sys.stderr)
    print("all promises kept" if result.ok else f"{result.failed} promises broken")
    raise typer.Exit(not result.ok)
