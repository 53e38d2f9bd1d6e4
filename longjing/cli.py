"""The commands. Each parses, calls and prints; what they do lies in the rooms below.

Heavy imports are inside the commands, so that `longjing --help` answers at once.
"""

import os
import sys
from collections.abc import Iterator, Sequence
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
    "Begin with:\n\n    longjing chat\n\n    longjing run r1-zero",
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
# How a model is measured: what isn't given is as the task or benchmark says.
Problems = Annotated[
    int | None, typer.Option(min=1, help="of the test set, from its start; default 200, of a benchmark all")
]
Samples = Annotated[
    int | None, typer.Option(min=1, help="answers to each problem; default 4, of a benchmark as published")
]
SampleSeed = Annotated[int, typer.Option(help="of the samples; the problems are always the same")]
Temperature = Annotated[float | None, typer.Option(min=0, help="default 1, of a benchmark 0.6")]
TopP = Annotated[float | None, typer.Option(min=0, max=1, help="default 1, of a benchmark 0.95")]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="longest answer; default 512, of a benchmark 32768")
]
Json = Annotated[Path | None, typer.Option(help="write the figures here; of one model, all verdicts too")]
_TASK_HELP = "see `longjing tasks list`; or aime-2024, aime-2025, math-500, gpqa-diamond, gsm8k"


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
    quick: Annotated[bool, typer.Option("--quick", help="every stage, scaled down to seconds")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="this stage alone; repeat for more")
    ] = None,
) -> None:
    """Run a recipe, or go on with it: the same command resumes a run that was stopped.

    Ends with code 1 if a stage doesn't reach what its gate asks for.

    Examples:

        longjing run r1-zero

        longjing run r1-zero --seed 1 --out runs/another

        longjing run r1-zero --set task.difficulty=3 --set steps=50

        longjing run r1 --quick

        longjing run r1 --only rl-1 --set rl-1.model=runs/another
    """
    from longjing.recipe.gates import GateClosed
    from longjing.recipe.loading import load
    from longjing.recipe.running import run_recipe

    console = Console()
    given = {"seed": seed, "device": device, "dtype": dtype}
    changes = [*(changes or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    plan = load(recipe, changes, quick, only or ()).here()
    out = out or Path("runs") / (plan.name if seed is None else f"{plan.name}-seed-{seed}")
    _say(console, f"{plan.name} in {out}: {_place(plan.device, plan.dtype)}, CPU threads: {plan.threads}")
    try:
        run_recipe(plan, out, console)
    except KeyboardInterrupt:
        _say(console, f"Stopped; nothing is lost, the same command goes on. So far: {out / 'report.html'}")
        raise typer.Exit(130) from None
    except GateClosed as closed:
        _say(console, str(closed), "bold red")
        raise typer.Exit(1) from None
    _say(console, f"Done. Report: {out / 'report.html'}")
    if plan.talks:
        _say(console, f"Talk to the model: longjing chat {out}")


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
def export(
    run: Annotated[Path, typer.Argument(help="a run")],
    directory: Annotated[Path, typer.Argument(help="where the model goes; its name is the model's")],
    stage: Annotated[str | None, typer.Option(help="whose model; default the run's own")] = None,
    dtype: Annotated[
        str, typer.Option(help="bfloat16, half the size, or float32, as it was trained")
    ] = "bfloat16",
) -> None:
    """Write a run's model as a Hugging Face directory, with a card that says how it was made and what it can do.

    Of a card that is there already only the facts are written again.

    Example:

        longjing export runs/r1 my-model --stage distilled
    """
    from longjing.recipe.exporting import export_model
    from longjing.runs import RunDirectory

    export_model(RunDirectory(run), stage, directory, dtype)
    print(directory)


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="a run, a model directory, or a shipped model's name")] = "r1",
    temperature: Annotated[float, typer.Option(min=0, help="0 always takes the likeliest token")] = 0.6,
    max_tokens: Annotated[int, typer.Option(min=1, help="longest reply, reasoning included")] = 512,
    budget: Annotated[
        int | None,
        typer.Option(min=0, help="tokens to think for; default what the answer leaves of --max-tokens"),
    ] = None,
    seed: Annotated[int, typer.Option(help="the same seed and questions give the same replies")] = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Talk to a model in the terminal. Its reasoning is dimmed, its answer isn't.

    Examples:

        longjing chat

        longjing chat runs/r1-zero

        longjing chat base --temperature 0
    """
    from longjing.chat import Conversation, converse
    from longjing.recipe.running import task_of

    console = Console(highlight=False)
    engine, tokenizer = _engine(model, device, dtype, console)
    limit = engine.model.config.max_position_embeddings
    conversation = Conversation(engine, tokenizer, limit, temperature, max_tokens, seed)
    if budget is not None:
        conversation.budget = budget
    converse(conversation, task_of(model), console)


@app.command(name="eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="a run, a model directory, a shipped model, or a model behind --base-url")
    ],
    task: Annotated[str, typer.Option(help=_TASK_HELP)],
    problems: Problems = None,
    samples: Samples = None,
    seed: SampleSeed = 0,
    json: Json = None,
    settings: Settings = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    price_read: Annotated[float | None, typer.Option(min=0, help="$ per million prompt tokens")] = None,
    price_written: Annotated[float | None, typer.Option(min=0, help="$ per million sampled tokens")] = None,
    price_hour: Annotated[
        float | None, typer.Option(min=0, help="$ per hour; of a model here, its electricity if not given")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="an OpenAI-compatible endpoint; its key is read from OPENAI_API_KEY")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="requests to the endpoint at once; default 8")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="seconds of silence until a request is lost; default 1800")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(min=0, help="further attempts at a request; default 6")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="where the endpoint's answers are kept; default answers/MODEL-TASK.jsonl"),
    ] = None,
    request: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="a field of each request; null leaves it out; repeat for more"
        ),
    ] = None,
) -> None:
    """Measure a model on held-out problems: pass@1 with its 95% interval, maj@k, pass@k, lengths, cost.

    An endpoint's answers are kept as they come: the same command goes on where it was stopped.

    Examples:

        longjing eval base --task countdown

        longjing eval runs/r1-zero --task countdown --set difficulty=3 --json zero.json

        longjing eval path/to/model --task math-500 --samples 4 --device cuda --dtype bfloat16

        longjing eval some-model --base-url http://localhost:8000/v1 --task aime-2024
    """
    from longjing.evaluation import Endpoint, Price
    from longjing.evaluation.benchmarks import find
    from longjing.recipe.loading import parse_settings

    console = Console()
    chosen, procedure = find(task, **parse_settings(settings or []))
    procedure = procedure.changed(
        problems=problems, samples=samples, seed=seed,
        temperature=temperature, top_p=top_p, max_tokens=max_tokens,
    )  # fmt: skip
    asking: dict[str, Any] = {
        "concurrency": concurrency, "timeout": timeout, "retries": retries,
        "answers": answers, "request": request,
    }  # fmt: skip
    asking = {name: value for name, value in asking.items() if value is not None}
    _claim(json)
    if base_url is None:
        if asking:
            raise UserError(f"--{next(iter(asking))} is for an endpoint: say which with --base-url")
        respondent = _local(model, device, dtype, console)
        price_hour = _electricity() if price_hour is None else price_hour
    else:
        if (device, dtype) != ("auto", "float32"):
            raise UserError("--device and --dtype are for a model here; an endpoint has chosen its own")
        asking["fields"] = parse_settings(asking.pop("request", []))
        kept = asking.pop("answers", Path("answers") / f"{model.replace('/', '-')}-{task}.jsonl")
        respondent = Endpoint(base_url, model, kept, key=os.environ.get("OPENAI_API_KEY"), **asking)
        _say(console, f"{model} at {base_url}; its answers are kept in {kept}", "dim")
    prices = [price_read, price_written, price_hour]
    stated = any(rate is not None for rate in prices)
    price = Price(*(rate or 0.0 for rate in prices), currency="$") if stated else None
    evaluation = _measured(respondent, chosen, procedure, model=model, price=price)
    _table(f"{model} on {task}", evaluation.summary_rows(), console)
    _keep(json, evaluation.to_dict())


@app.command()
def compare(
    context: typer.Context,
    sides: Annotated[
        list[str], typer.Argument(help="results written by `longjing eval --json`, or models to measure now")
    ],
    task: Annotated[str | None, typer.Option(help=f"for models: {_TASK_HELP}")] = None,
    problems: Problems = None,
    samples: Samples = None,
    seed: SampleSeed = 0,
    json: Json = None,
    settings: Settings = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
) -> None:
    """Compare two or more on the same problems: a table with cost per solved problem, and paired differences
    from the first with their 95% intervals.

    Examples:

        longjing compare base runs/r1-zero --task countdown

        longjing compare base.json zero.json endpoint.json
    """
    from longjing.evaluation import Comparison, Evaluation, Price
    from longjing.evaluation.benchmarks import find
    from longjing.recipe.loading import parse_settings

    console = Console()
    if len(set(sides)) < 2:
        raise UserError("a comparison needs two different sides at least")
    results = {side: Evaluation.read(Path(side)) for side in sides if side.endswith(".json")}
    models = [side for side in sides if side not in results]
    if models and task is None:
        raise UserError(f"{models[0]} is no result (a .json file); to measure it as a model, give --task")
    given = [name for name in _given(context) if name != "--json"]
    if not models and given:
        raise UserError(
            f"all of {', '.join(sides)} are results, so there is nothing to measure: leave out {', '.join(given)}"
        )
    _claim(json)
    if task is not None:
        chosen, procedure = find(task, **parse_settings(settings or []))
        procedure = procedure.changed(
            problems=problems, samples=samples, seed=seed,
            temperature=temperature, top_p=top_p, max_tokens=max_tokens,
        )  # fmt: skip
        price = Price(hour=_electricity())
        for model in models:
            respondent = _local(model, device, dtype, console)
            results[model] = _measured(respondent, chosen, procedure, model=model, price=price)
    comparison = Comparison.of({side: results[side] for side in sides})
    _table("measured", comparison.table(), console, header=True)
    _table("differences", comparison.difference_rows(), console)
    _keep(json, comparison.to_dict())


@app.command()
def recipes() -> None:
    """List the recipes that come with the package."""
    from longjing.recipe.loading import load, names

    _table("recipes", [(name, load(name).description) for name in names()], Console())


@app.command()
def models() -> None:
    """List the models that come with the package; `longjing chat NAME` talks to one."""
    from longjing.model.files import SHIPPED, shipped
    from longjing.recipe.card import about

    _table("models", [(name, about(SHIPPED / name / "README.md")) for name in shipped()], Console())


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


def _local(model: str, device: str, dtype: str, console: Console) -> Any:
    """The model here as a respondent, its FLOPs counted."""
    from functools import partial

    from longjing.evaluation import Local
    from longjing.planning import flops

    engine, tokenizer = _engine(model, device, dtype, console)
    return Local(engine, tokenizer, partial(flops.generation, engine.model.config))


def _electricity() -> float:
    """Money per hour of a machine here, as the bill assumes it."""
    from longjing.planning.bill import Prices

    prices = Prices()
    return prices.per_hour + prices.watts / 1000 * prices.per_kwh


def _measured(respondent: Any, task: Any, procedure: Any, **stated: Any) -> Any:
    """`evaluation.measure` with a progress bar."""
    from longjing.evaluation import measure

    with _progress(procedure.problems * procedure.samples) as advance:
        return measure(respondent, task, procedure, on_progress=advance, **stated)


def _given(context: typer.Context) -> list[str]:
    """The options that the command line has."""
    sources = ((option, context.get_parameter_source(option.name or "")) for option in context.command.params)
    return [
        option.opts[0]
        for option, source in sources
        if option.param_type_name == "option" and source is not None and source.name == "COMMANDLINE"
    ]


def _claim(path: Path | None) -> None:
    """A result that can't be written is refused now rather than after the work; until then there is none."""
    from longjing.runs.files import disk_errors

    if path is not None:
        with disk_errors(path):
            if path.is_dir():
                raise IsADirectoryError("it is a directory")
            part = path.with_name(path.name + ".part")
            part.touch()
            part.unlink()


def _keep(path: Path | None, result: Any) -> None:
    from longjing.runs.files import to_json, write_text

    if path is not None:
        write_text(path, to_json(result) + "\n")


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


def _table(title: str, rows: Sequence[tuple[str, ...]], console: Console, header: bool = False) -> None:
    """Framed on a terminal, tab-separated where another program reads. The first row may be the header."""
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*(rows[0] if header else ()), title=title, show_header=header, title_justify="left")
    for row in rows[header:]:
        table.add_row(*map(Text, row))
    console.print(table)
