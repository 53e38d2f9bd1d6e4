"""Commands that measure models: one, or several on the same problems."""

import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from longjing.cli.models import Device, Dtype, Exact, exact_dtype, load_engine, refuse_device
from longjing.cli.output import progress, say, show_table
from longjing.cli.tasks import Settings
from longjing.errors import UserError
from longjing.files import digest, refuse_unwritable, to_json, write_text

# What isn't given is as the task or benchmark says.
Problems = Annotated[
    int | None, typer.Option(min=1, help="of the test set, from its start; default 200, of a benchmark all")
]
Samples = Annotated[
    int | None, typer.Option(min=1, help="answers to each problem; default 4, of a benchmark as published")
]
SampleSeed = Annotated[int, typer.Option(help="of the samples; the problems are always the same")]
Temperature = Annotated[float | None, typer.Option(min=0, help="default 1, of a benchmark 0.6")]
TopP = Annotated[float | None, typer.Option(min=0, max=1, help="default 1, of a benchmark 0.95")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="longest answer; default 512, of a benchmark 32768")]
Instruction = Annotated[
    str | None,
    typer.Option(help="said behind each problem, '' for none; default: the form, to models not trained here"),
]
Json = Annotated[Path | None, typer.Option(help="write the figures here; of one model, all verdicts too")]
_TASK_HELP = (
    "see `longjing tasks list`; aime-2024, aime-2025, math-500, gpqa-diamond, gsm8k; or one of your own: "
    "problems.jsonl, my_task.py, gym:NAME"
)

BaseUrl = Annotated[str | None, typer.Option(help="an OpenAI-compatible endpoint; its key is read from OPENAI_API_KEY")]

AnswersFile = Annotated[
    Path | None, typer.Option(help="where the endpoint's answers are kept; default answers/MODEL-TASK.jsonl")
]
RequestFields = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="a field of each request; null leaves it out; repeat for more"),
]


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
    instruction: Instruction = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    exact: Exact = False,
    price_read: Annotated[float | None, typer.Option(min=0, help="$ per million prompt tokens")] = None,
    price_written: Annotated[float | None, typer.Option(min=0, help="$ per million sampled tokens")] = None,
    price_hour: Annotated[
        float | None, typer.Option(min=0, help="$ per hour; of a model here, its electricity if not given")
    ] = None,
    base_url: BaseUrl = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="requests to the endpoint at once; default 8")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="seconds of silence until a request is lost; default 1800")
    ] = None,
    retries: Annotated[int | None, typer.Option(min=0, help="further attempts at a request; default 6")] = None,
    answers: AnswersFile = None,
    request: RequestFields = None,
) -> None:
    """Measure a model on held-out problems: pass@1 with its 95% interval, maj@k, pass@k, lengths, cost.

    An endpoint's answers are kept as they come: the same command goes on where it was stopped.

    Examples:

        longjing eval base --task countdown

        longjing eval runs/r1-zero --task countdown --set difficulty=3 --json zero.json

        longjing eval path/to/model --task math-500 --samples 4 --device cuda --dtype bfloat16

        longjing eval some-model --base-url http://localhost:8000/v1 --task aime-2024
    """
    from longjing.evaluation import Price
    from longjing.evaluation.evaluate import problems_of
    from longjing.evaluation.instructions import hint

    console = Console()
    loaded, config = _planned(
        task, settings, problems=problems, samples=samples, seed=seed,
        temperature=temperature, top_p=top_p, max_tokens=max_tokens, instruction=instruction,
    )  # fmt: skip
    options: dict[str, Any] = {
        "concurrency": concurrency, "timeout": timeout, "retries": retries,
        "answers": answers, "request": request,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    if json is not None:  # refused now rather than after the work; until then there is none
        refuse_unwritable(json)
    if base_url is None:
        if options:
            raise UserError(f"--{next(iter(options))} is for an endpoint: say which with --base-url")
        client, provenance = _local_client(model, device, dtype, max_tokens, console, exact)
        price_hour = _price_of_electricity() if price_hour is None else price_hour
    else:
        refuse_device(device, exact_dtype(dtype, exact))
        client, provenance = _endpoint_client(base_url, model, task, options, console)
    prices = [price_read, price_written, price_hour]
    stated = any(rate is not None for rate in prices)
    price = Price(*(rate or 0.0 for rate in prices), currency="$") if stated else None
    evaluation = _measure(client, loaded, config, provenance, model=model, price=price)
    show_table(f"{model} on {task}", evaluation.summary_rows(), console)
    if advice := hint(loaded, problems_of(loaded, config.changed(problems=1))[0], evaluation.unparsed):
        say(console, advice, "yellow")
    if json is not None:
        write_text(json, to_json(evaluation.to_dict()) + "\n")


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
    instruction: Instruction = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Compare two or more on the same problems: a table with cost per solved problem, and paired differences
    from the first with their 95% intervals.

    Examples:

        longjing compare base runs/r1-zero --task countdown

        longjing compare base.json zero.json endpoint.json
    """
    from longjing.evaluation import Comparison, Evaluation, Price
    from longjing.evaluation.compare import ProblemSet, require_same
    from longjing.runs.models import load

    console = Console()
    if len(set(sides)) < 2:
        raise UserError("a comparison needs two different sides at least")
    results = {side: Evaluation.read(Path(side)) for side in sides if side.endswith(".json")}
    models = [side for side in sides if side not in results]
    if models and task is None:
        raise UserError(f"{models[0]} is no result (a .json file); to measure it as a model, give --task")
    given_options = [name for name in _given_options(context) if name != "--json"]
    if not models and given_options:
        raise UserError(
            f"all of {', '.join(sides)} are results, so there is nothing to measure: "
            f"leave out {', '.join(given_options)}"
        )
    if json is not None:  # refused now rather than after the work; until then there is none
        refuse_unwritable(json)
    problem_sets = [ProblemSet.of_evaluation(result) for result in results.values()]
    if task is not None:
        for model in models:
            load(model, "meta")  # refused now if it is none, with nothing read yet
        loaded, config = _planned(
            task, settings, problems=problems, samples=samples, seed=seed,
            temperature=temperature, top_p=top_p, max_tokens=max_tokens, instruction=instruction,
        )  # fmt: skip
        problem_sets.append(ProblemSet.of_task(loaded, config))
    for other in problem_sets[1:]:
        require_same(problem_sets[0], other)
    if task is not None:
        price = Price(hour=_price_of_electricity())
        for model in models:
            client, provenance = _local_client(model, device, dtype, max_tokens, console)
            results[model] = _measure(client, loaded, config, provenance, model=model, price=price)
    comparison = Comparison.of({side: results[side] for side in sides})
    show_table("measured", comparison.table(), console, header=True)
    show_table("differences", comparison.difference_rows(), console)
    if json is not None:
        write_text(json, to_json(comparison.to_dict()) + "\n")


def _planned(task: str, settings: list[str] | None, **changes: Any) -> tuple[Any, Any]:
    """The task, and how it is measured."""
    from longjing.evaluation.benchmarks import find
    from longjing.recipe.loading import parse_settings

    loaded, config = find(task, **parse_settings(settings or []))
    return loaded, config.changed(**changes)


def _local_client(
    model: str, device: str, dtype: str, max_tokens: int | None, console: Console, exact: bool = False
) -> tuple[Any, dict[str, Any]]:
    """A client of the model here, whose FLOPs are counted, and what the provenance says of it. A `max_tokens` that
    somebody asked for is kept or refused; a benchmark's own gives way to the context."""
    from functools import partial

    from longjing.evaluation import LocalClient
    from longjing.planning import flops
    from longjing.runs.resolve import resolve

    engine, tokenizer = load_engine(model, device, dtype, console, exact)
    network, weight = engine.model.config, engine.model.embed_tokens.weight
    count, context = partial(flops.generation, network), network.max_position_embeddings
    provenance = {
        "device": str(weight.device), "dtype": str(weight.dtype).removeprefix("torch."),
        "sha256": digest(resolve(model)),
    }  # fmt: skip
    return LocalClient(engine, tokenizer, count, context, strict=max_tokens is not None), provenance


def _endpoint_client(
    base_url: str, model: str, task: str, options: dict[str, Any], console: Console
) -> tuple[Any, dict[str, Any]]:
    """A client of the endpoint, and what the provenance says of it. `options`: those of the command line that were
    given."""
    from longjing.evaluation import EndpointClient
    from longjing.recipe.loading import parse_settings

    fields = parse_settings(options.pop("request", []))
    answers = options.pop("answers", Path("answers") / f"{model}-{task}.jsonl".replace("/", "-"))
    key = os.environ.get("OPENAI_API_KEY")
    client = EndpointClient(base_url, model, answers, key=key, fields=fields, **options)
    say(console, f"{model} at {base_url}; its answers are kept in {answers}", "dim")
    return client, {"base_url": client.base_url, "request": fields}


def _measure(client: Any, task: Any, config: Any, provenance: dict[str, Any], **stated: Any) -> Any:
    """`evaluation.measure` with a progress bar, and its provenance."""
    from longjing.evaluation import measure

    provenance = {"version": version("longjing"), **provenance}
    with progress(config.problems * config.samples) as advance:
        return measure(client, task, config, on_progress=advance, provenance=provenance, **stated)


def _price_of_electricity() -> float:
    """Money per hour of a machine here, as the bill assumes it."""
    from longjing.planning.bill import Prices

    return Prices().money(seconds=3600)


def _given_options(context: typer.Context) -> list[str]:
    """The options that the command line has."""
    sources = ((option, context.get_parameter_source(option.name or "")) for option in context.command.params)
    return [
        option.opts[0]
        for option, source in sources
        if option.param_type_name == "option" and source is not None and source.name == "COMMANDLINE"
    ]
