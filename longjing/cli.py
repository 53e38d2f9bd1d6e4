"""The commands. Each parses, calls and prints; what they do lies in the rooms below.

Heavy imports are inside the commands, so that `longjing --help` answers at once.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from longjing.errors import UserError

app = typer.Typer(
    name="longjing",
    help="Teach a small language model to reason, watch it learn, talk to it.\n\n"
    "Begin with:\n\n    longjing run r1-zero\n\n    longjing chat runs/r1-zero",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
tasks_app = typer.Typer(no_args_is_help=True, help="Tasks whose answers can be checked: list, sample, check.")
app.add_typer(tasks_app, name="tasks")

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto: the fastest that is there")]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="a setting of the task; repeat for more"),
]


@app.command()
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
) -> None:
    """Run a recipe, or go on with it: the same command resumes a run that was stopped.

    Examples:

        longjing run r1-zero

        longjing run r1-zero --seed 1 --out runs/another

        longjing run r1-zero --set task.difficulty=3 --set steps=50
    """
    from longjing.recipe.loading import load
    from longjing.recipe.running import run_recipe

    console = Console()
    given = {"seed": seed, "device": device, "dtype": dtype}
    changes = [*(changes or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    plan = load(recipe, changes).here()
    out = out or Path("runs") / (plan.name if seed is None else f"{plan.name}-seed-{seed}")
    _say(console, f"{plan.name} in {out}: {_place(plan.device, plan.dtype)}, CPU threads: {plan.threads}")
    try:
        run_recipe(plan, out, console)
    except KeyboardInterrupt:
        _say(console, f"Stopped; nothing is lost, the same command goes on. So far: {out / 'report.html'}")
        raise typer.Exit(130) from None
    _say(console, f"Done. Report: {out / 'report.html'}\nTalk to the model: longjing chat {out}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="the run's directory")]) -> None:
    """Write report.html of a run again, finished or not.

    Example:

        longjing report runs/r1-zero
    """
    from longjing.recipe.running import account
    from longjing.runs import RunDirectory

    account(RunDirectory(run))
    print(run / "report.html")


@app.command()
def chat(
    model: Annotated[
        str, typer.Argument(help="a run, a model directory, or a shipped model's name")
    ] = "base",
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token")] = 0.6,
    max_tokens: Annotated[int, typer.Option(min=1, help="longest reply, reasoning included")] = 512,
    seed: Annotated[int, typer.Option(help="the same seed and questions give the same replies")] = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Talk to a model in the terminal. Its reasoning is dimmed, its answer isn't.

    Examples:

        longjing chat runs/r1-zero

        longjing chat base --temperature 0
    """
    from longjing.chat import Conversation, converse
    from longjing.recipe.running import task_of

    console = Console(highlight=False)
    engine, tokenizer = _engine(model, device, dtype, console)
    limit = engine.model.config.max_position_embeddings
    converse(
        Conversation(engine, tokenizer, limit, temperature, max_tokens, seed), task_of(Path(model)), console
    )


@app.command(name="eval")
def evaluate(
    model: Annotated[str, typer.Argument(help="a run, a model directory, or a shipped model's name")],
    task: Annotated[str, typer.Option(help="see `longjing tasks list`")],
    problems: Annotated[int, typer.Option(min=1, help="of the test set, from its start")] = 200,
    samples: Annotated[int, typer.Option(min=1, help="completions of each problem")] = 4,
    seed: Annotated[int, typer.Option(help="of the samples; the problems are always the same")] = 0,
    json: Annotated[
        Path | None, typer.Option(help="write figures and all completions' verdicts here")
    ] = None,
    settings: Settings = None,
    temperature: Annotated[float, typer.Option(min=0)] = 1.0,
    max_tokens: Annotated[int, typer.Option(min=1, help="longest completion")] = 512,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Measure a model on held-out problems: pass@1 with its 95% interval, maj@k, pass@k, lengths, cost.

    Examples:

        longjing eval base --task countdown

        longjing eval runs/r1-zero --task countdown --set difficulty=3
    """
    from functools import partial

    from longjing import tasks
    from longjing.evaluation import evaluate as measure
    from longjing.planning import flops
    from longjing.recipe.loading import parse_settings
    from longjing.runs.files import disk_errors, to_json, write_text

    console = Console()
    chosen = tasks.get(task, **parse_settings(settings or []))
    engine, tokenizer = _engine(model, device, dtype, console)
    if json is not None:
        with disk_errors(json):  # refused now rather than after the work
            json.touch()
    with _progress(problems * samples) as advance:
        evaluation = measure(
            engine,
            tokenizer,
            chosen,
            problems=problems,
            samples=samples,
            seed=seed,
            temperature=temperature,
            max_tokens=max_tokens,
            flops=partial(flops.generation, engine.model.config),
            on_progress=advance,
        )
    _table(f"{model} on {task}", evaluation.summary_rows(), console)
    if json is not None:
        write_text(json, to_json(evaluation.to_dict()) + "\n")


@app.command()
def recipes() -> None:
    """List the recipes that come with the package."""
    from longjing.recipe.loading import load, names

    _table("recipes", [(name, load(name).description) for name in names()], Console())


@tasks_app.command(name="list")
def list_tasks() -> None:
    """List the tasks, each with its settings and their defaults."""
    from longjing import tasks

    rows = [
        (name, ", ".join(f"{key}={value}" for key, value in tasks.get(name).settings.items()))
        for name in tasks.names()
    ]
    _table("tasks", rows, Console())


@tasks_app.command(name="sample")
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


@tasks_app.command(name="check")
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
    _table(name, rows, Console())
    for failure in result.failures:
        print(failure, file=sys.stderr)
    print("all promises kept" if result.ok else f"{result.failed} promises broken")
    raise typer.Exit(not result.ok)


def main() -> None:
    """Entry point: what a UserError says is for the person, anything else is a defect."""
    try:
        app(prog_name="longjing")
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
        sys.exit(2)


def _engine(model: str, device: str, dtype: str, console: Console) -> Any:
    """An engine for the model, and its tokenizer; says what was chosen."""
    import longjing
    from longjing.engine import Engine

    network, tokenizer = longjing.load(model, device, dtype)
    weight = network.embed_tokens.weight
    size = sum(parameter.numel() for parameter in network.parameters())
    place = _place(str(weight.device), str(weight.dtype).removeprefix("torch."))
    _say(console, f"{model}: {size / 1e6:.1f} million parameters, {place}", "dim")
    return Engine(network, tokenizer, speculate="auto"), tokenizer


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True)


def _place(device: str, dtype: str) -> str:
    return f"on {device} in {dtype}"


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on stderr, if that is a terminal; gives the function that moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total)
        yield lambda done, tokens: progress.update(bar, completed=done)


def _table(title: str, rows: list[tuple[str, str]], console: Console) -> None:
    """Two columns: framed on a terminal, tab-separated where another program reads."""
    if not console.is_terminal:
        for label, value in rows:
            print(f"{label}\t{value}")
        return
    table = Table(title=title, show_header=False, title_justify="left")
    for label, value in rows:
        table.add_row(Text(label), Text(value))
    console.print(table)
