"""A run's model, taken out of the run: a Hugging Face directory, and its card, which says what the model is, how the
run made it, what that took, and what it can do, with intervals.

What a person wrote around the facts is kept when a card is written again. A new card states a licence and languages
only if nothing but the package went into the model; else they are for the person to fill in.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from longjing import tasks
from longjing.files import digest, write_text
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import adapters, describe, has_adapter
from longjing.model.store.adapter import base_of
from longjing.planning.bill import duration, quantity
from longjing.recipe.lineage import FILE
from longjing.recipe.report.comparison import CheckpointComparison
from longjing.recipe.running import bill_of
from longjing.recipe.stages import references
from longjing.runs import RunDirectory
from longjing.runs.fetch import public_name
from longjing.runs.figures import unjudged
from longjing.runs.resolve import SHIPPED, shipped

_BEGIN, _END = "<!-- facts -->", "<!-- end of facts -->"


def write_card(path: Path, run: RunDirectory, stage: str, model: Decoder, dtype: str, directory: Path) -> None:
    """Write the card of a stage's model to `path`, or put today's facts into the card that is there, between its marks.
    A card without marks is somebody's own, and stays. `directory`: where the model will lie."""
    card = _card(run, stage, model, dtype, directory)
    if path.exists():
        head, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
        _, marked, tail = rest.partition(_END)
        if not marked:
            return
        facts = card.partition(_BEGIN)[2].partition(_END)[0]
        card = head + _BEGIN + facts + _END + tail
    write_text(path, card)


def about(path: Path) -> str:
    """What a card says first, below its title, on one line."""
    body = path.read_text(encoding="utf-8").partition("\n---\n")[2]
    return body.partition("\n# ")[2].split("\n\n")[1].replace("\n", " ")


def _all_own(chain: Iterable[Mapping[str, Any]], inputs: Iterable[str]) -> bool:
    """Whether the stages took nothing but what is the package's: models by their digests, tasks by their names."""
    shipped_models = {digest(SHIPPED / name) for name in shipped()}
    taken = (settings.get("task", []) for settings in chain)
    listed = (task for entry in taken for task in (entry if isinstance(entry, list) else [entry]))
    names = (leaf["name"] for task in listed for leaf in tasks.flatten_mixture(task))
    return {*inputs} <= shipped_models and not any(map(tasks.is_external, names))


def _card(run: RunDirectory, stage: str, model: Decoder, dtype: str, directory: Path) -> str:
    recipe, lineage = run.recipe(), run.read_json(FILE)
    settings = {each["name"]: each for each in recipe["stages"]}
    made = lineage["stages"][stage]
    comparison = CheckpointComparison.of(run.checkpoints.rows())
    chain = [name for name in settings if name in _ancestors(stage, settings)]
    environment = Environment(loader=PackageLoader("longjing.recipe", "."), undefined=StrictUndefined)
    outside = sorted({name for each in chain for name in lineage["stages"][each]["takes"].values()} - {*chain})
    own = _all_own([settings[name] for name in chain], [lineage["inputs"][name]["sha256"] for name in outside])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    adapter = None
    if has_adapter(model):
        base = base_of(run.stage(stage).model_path)
        adapter = {
            "shape": describe(model), "base": base, "hub": public_name(base or ""),
            "rank": next(each.a.shape[-2] for *_, each in adapters(model)),
            "parameters": sum(each.a.numel() + each.b.numel() for *_, each in adapters(model)),
        }  # fmt: skip
        dtype = "float32"
    return environment.get_template("card.md.jinja").render(
        name=directory.name, about="A model that Longjing made.", begin=_BEGIN, end=_END, path=directory,
        adapter=adapter, stage=stage, recipe=recipe, own=own, config=model.config, parameters=parameters,
        active=model.active_parameters(), dtype=dtype, version=version("longjing"), sha256=made["makes"]["sha256"],
        place=f"{recipe['threads']} thread(s) of a CPU" if recipe["device"] == "cpu" else recipe["device"],
        stages=[*_work(run, settings, chain)],
        inputs=[f"`{name}` ({lineage['inputs'][name]['sha256'][:12]}…)" for name in outside],
        results=[] if comparison is None else [*_results(comparison, [*outside, settings[stage]["model"], stage])],
        procedure="" if comparison is None else comparison.procedure,
        samples=0 if comparison is None else next(iter(comparison.cells.values()))["samples"],
    )  # fmt: skip


def _ancestors(stage: str, settings: Mapping[str, Any]) -> set[str]:
    """The stage, and every stage of the run that something of it was made from."""
    if stage not in settings:
        return set()
    return {stage}.union(*(_ancestors(taken.name, settings) for taken in references(settings[stage])))


def _work(run: RunDirectory, settings: Mapping[str, Any], chain: list[str]) -> Iterator[tuple[str, ...]]:
    phases = bill_of(run).phases
    for name in chain:
        phase = phases[name]
        taken = dict.fromkeys(reference.name for reference in references(settings[name]))
        yield (
            name, settings[name]["kind"], ", ".join(taken) or "nothing",
            quantity(phase.tokens_sampled, "").strip(), quantity(phase.tokens_trained, "").strip(),
            quantity(phase.flops, "FLOP"), duration(phase.seconds),
        )  # fmt: skip


def _results(comparison: CheckpointComparison, names: list[Any]) -> Iterator[tuple[str, ...]]:
    """What was measured of those that were: what came from outside, what the stage began with, and what it made."""
    for label in comparison.labels:
        for name in dict.fromkeys(name for name in names if isinstance(name, str)):
            if (row := comparison.cells.get((name, label))) is not None and row["pass_at_1"] is not None:
                yield (
                    label, name, f"{row['pass_at_1']:.1%} ({row['low']:.1%} to {row['high']:.1%}){unjudged(row)}",
                    f"{row['maj_at_k']:.1%}", f"{row['length_mean']:.0f} tokens",
                )  # fmt: skip
