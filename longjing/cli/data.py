"""Commands on sets of problems: from the Hub to a file that a task is made of."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from longjing.cli.evaluation import BaseUrl
from longjing.cli.models import Device, Dtype, load_engine, refuse_device
from longjing.cli.output import progress, say, show_table
from longjing.cli.tasks import Settings
from longjing.errors import UserError
from longjing.files import refuse_unwritable, to_json, write_lines

if TYPE_CHECKING:
    from longjing.evaluation import EvalConfig

app = typer.Typer(
    no_args_is_help=True,
    help="Problems of public sets, for a model to learn from.\n\n"
    "Get a set, drop what the evaluations ask too, keep what is as hard as it should be, and learn:\n\n"
    "    longjing data get gsm8k --out gsm8k.jsonl\n\n"
    "    longjing data decontaminate gsm8k.jsonl --out clean.jsonl\n\n"
    "    longjing data filter clean.jsonl --set verifier=math --model MODEL --out kept.jsonl\n\n"
    "    longjing run r1-zero --set task=kept.jsonl --set task.verifier=math",
)
Out = Annotated[Path, typer.Option(help="the .jsonl file to write; it appears whole or not at all")]


@app.command(name="list")
def list_sets() -> None:
    """List the public sets, each with its name on the Hub, its splits, and the verifier that judges its answers."""
    from longjing.data.public import PUBLIC

    rows = [(name, public.repository, ", ".join(public.splits), public.verifier) for name, public in PUBLIC.items()]
    show_table("public sets", [("set", "on the Hub", "splits", "verifier"), *rows], Console(), header=True)


@app.command()
def get(
    name: Annotated[str, typer.Argument(help="see `longjing data list`; or the set's name on the Hub")],
    out: Out,
    split: Annotated[str, typer.Option(help="of the set")] = "train",
    source: Annotated[
        Path | None, typer.Option("--from", help="a file or a folder of the same form, instead of the Hub")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="on the Hub; default the one that the reader knows")] = None,
    tests: Annotated[int, typer.Option(help="of a program at most, evenly chosen from the set's")] = 200,
) -> None:
    """Write the problems of a public set as rows with `prompt`, `answer` and what their verifier reads.

    Rows whose answer can't be checked are left out, and counted by reason. A set that its owners show only to who
    accepted its terms needs HF_TOKEN.

    Examples:

        longjing data get gsm8k --out gsm8k.jsonl

        longjing data get open-r1/OpenR1-Math-220k --out openr1.jsonl

        longjing data get taco --from downloads/TACO --tests 20 --out taco.jsonl
    """
    from longjing.data.public import open_set

    _writable(out, source)
    reading = open_set(name, split, source, revision, tests)
    if not (rows := list(reading.rows())):
        raise UserError(f"{reading.origin}: none of {reading.read} rows is a problem: {dict(reading.left_out)}")
    _write(out, rows)
    left_out = [(f"left out: {reason}", f"{count:,}") for reason, count in reading.left_out.most_common()]
    facts = [("from", reading.origin), ("rows", f"{reading.read:,}"), *left_out, ("problems", f"{len(rows):,}")]
    show_table(str(out), facts, Console())
    say(Console(stderr=True), f"not compared with any evaluation yet: longjing data decontaminate {out}", "dim")


@app.command()
def decontaminate(
    file: Annotated[Path, typer.Argument(help="rows with a `prompt`")],
    out: Out,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME, NAME=FILE or FILE",
            help="aime-2024, aime-2025, math-500, gpqa-diamond, gsm8k (its test split), as they are on the Hub or in "
            "a file; or any file with problems; repeat for more; default all five",
        ),
    ] = None,
    words: Annotated[int, typer.Option(help="in a row that no problem may share with an evaluation's")] = 13,
    show: Annotated[int, typer.Option(min=0, help="examples of what was dropped")] = 3,
) -> None:
    """Drop the problems that an evaluation asks too: those that share a run of words with one of its problems.

    Problems of an evaluation with fewer words are compared as a whole. If an evaluation can't be had, nothing is
    written. What a learner has seen, a measurement on it says nothing about.

    Examples:

        longjing data decontaminate gsm8k.jsonl --out clean.jsonl

        longjing data decontaminate mine.jsonl --against math-500 --against our-exam.csv --out clean.jsonl
    """
    from longjing.data.contamination import load, split
    from longjing.evaluation.benchmarks import BENCHMARKS

    _writable(out, file)
    evaluations = load(against or list(BENCHMARKS), words)
    result = split(file, evaluations)
    for location, row, match in result.contaminated[:show]:
        print(f"{location}: {_shown(row['prompt'])}")
        print(f"  shares with {match.evaluation}, {match.location}: {_shown(match.shared)}\n")
    dropped = Counter(match.evaluation for _, _, match in result.contaminated)
    counts = [
        (f"dropped for {name}, of {count:,} problems", f"{dropped[name]:,}")
        for name, count in evaluations.counts.items()
    ]
    if not result.clean:
        raise UserError(f"all {len(result.contaminated)} problems of {file} are asked by an evaluation; none is left")
    _write(out, result.clean)
    total = len(result.clean) + len(result.contaminated)
    show_table(str(out), [("problems", f"{total:,}"), *counts, ("left", f"{len(result.clean):,}")], Console())


@app.command(name="filter")
def filter_problems(
    file: Annotated[str, typer.Argument(help="rows with `prompt` and `answer`; or a task of listed problems")],
    out: Out,
    model: Annotated[
        str | None,
        typer.Option(help="whose answers are judged: a run, a directory, a shipped model, or one behind --base-url"),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="take the rates that this column says; no model is asked")
    ] = None,
    at_least: Annotated[float, typer.Option(help="the lowest share of right answers")] = 0.1,
    at_most: Annotated[float, typer.Option(help="the highest share of right answers")] = 0.9,
    samples: Annotated[int, typer.Option(min=1, help="answers to each problem")] = 8,
    settings: Settings = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="longest answer; what is cut off counts as wrong")] = 512,
    temperature: Annotated[float, typer.Option(min=0)] = 1.0,
    top_p: Annotated[float, typer.Option(min=0, max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="of the samples")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    base_url: BaseUrl = None,
) -> None:
    """Keep the problems that a model solves sometimes: from those it solves always or never it can't learn.

    Each row kept gets its `pass_rate`. All rates are kept as they come, in OUT.rates.jsonl: the same command goes on
    where it was stopped, and with another --at-least or --at-most it asks nothing again.

    Examples:

        longjing data filter clean.jsonl --set verifier=math --model MODEL --at-least 0.1 --at-most 0.9 --out kept.jsonl

        longjing data filter big-math.jsonl --by llama8b_solve_rate --at-most 0.5 --out hard.jsonl
    """
    from longjing.data.pass_rates import RateBand, filter_by_rate, recorded
    from longjing.evaluation import EvalConfig

    band = RateBand(at_least, at_most)
    _writable(out, Path(file))
    if (model is None) == (by is None):
        raise UserError("say whose rates: --model MODEL measures them, --by COLUMN takes what the file says")
    if model is None:
        if settings or base_url:
            raise UserError(f"{'--set' if settings else '--base-url'} is for measuring a --model, not for --by")
        rated = recorded(Path(file), by or "")
        facts: list[tuple[str, ...]] = []
    else:
        config = EvalConfig(1, samples, seed, temperature, top_p, max_tokens)
        rated, facts = _measure(file, out, model, settings or [], config, device, dtype, base_url)
    filtered = filter_by_rate(rated, band)
    facts = [
        ("problems", f"{len(rated):,}"), *facts, (f"below {at_least}", f"{filtered.harder:,}"),
        (f"above {at_most}", f"{filtered.easier:,}"), ("without a rate", f"{filtered.unknown:,}"),
        ("kept", f"{len(filtered.kept):,}"),
    ]  # fmt: skip
    show_table(str(out), facts, Console())
    if not filtered.kept:
        raise UserError(f"no problem has a rate from {at_least} to {at_most}: {out} was not written")
    _write(out, filtered.kept)


def _measure(
    file: str,
    out: Path,
    model: str,
    settings: list[str],
    config: "EvalConfig",
    device: str,
    dtype: str,
    base_url: str | None,
) -> tuple[list[tuple[dict[str, Any], float | None]], list[tuple[str, ...]]]:
    """The rows with the model's rates, and what is to be said about them."""
    from longjing import tasks
    from longjing.data.pass_rates import measure_pass_rates, weights_digest
    from longjing.evaluation import EndpointClient, LocalClient, ModelClient
    from longjing.recipe.loading import parse_settings
    from longjing.tasks import ListedTask

    task = tasks.get(file, **parse_settings(settings))
    if not isinstance(task, ListedTask):
        raise UserError(f"{file} has no list of problems to choose from: give a file of them")
    config = replace(config, problems=len(list(task.located_rows())))
    console = Console(stderr=True)
    client: ModelClient
    if base_url is None:
        engine, tokenizer = load_engine(model, device, dtype, console)
        client, model_facts = LocalClient(engine, tokenizer), {"weights": weights_digest(engine.model)}
        at_once = 64
    else:
        refuse_device(device, dtype)
        answers = out.with_name(out.name + ".answers.jsonl")
        client = EndpointClient(base_url, model, answers, key=os.environ.get("OPENAI_API_KEY"))
        model_facts = {"name": model, "base_url": base_url}
        at_once = config.problems  # it keeps its answers itself
    rates = out.with_name(out.name + ".rates.jsonl")
    with progress(config.problems * config.samples) as advance:
        measured = measure_pass_rates(client, task, config, model_facts, rates, at_once=at_once, on_progress=advance)
    pass_rates = [rate for _, rate in measured]
    total = sum(rate.samples for rate in pass_rates)
    unjudged = total - sum(rate.judged for rate in pass_rates)
    facts: list[tuple[str, ...]] = [
        ("right answers", f"{sum(rate.correct for rate in pass_rates) / total:.1%}"),
        ("cut off", f"{sum(rate.truncated for rate in pass_rates) / total:.1%}"),
        *([("unjudged", f"{unjudged}, counted as not right")] if unjudged else []),
    ]
    return [(row, rate.share) for row, rate in measured], facts


def _writable(out: Path, source: Path | None) -> None:
    """What can't be written is refused before the work."""
    if out.suffix != ".jsonl":
        raise UserError(f"--out {out}: the file is JSON by lines, so call it something.jsonl")
    if source is not None and out.resolve() == source.resolve():
        raise UserError(f"{out} would replace what is read: choose another --out")
    refuse_unwritable(out)


def _write(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_lines(out, (to_json(row) + "\n" for row in rows))


def _shown(text: str) -> str:
    """The beginning of a text that somebody else wrote, with nothing in it that a terminal obeys."""
    return "".join(char if char.isprintable() else "\ufffd" for char in " ".join(text.split())[:200])
