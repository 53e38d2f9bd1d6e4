"""The lineage of a run: which checkpoint, data and settings made which, as RUN/lineage.json.

    {"inputs": {"base": {"sha256": ...}},
     "stages": {"zero": {"kind", "version", "seed", "device", "dtype", "threads", "settings",
                         "takes": {"model": "base"},
                         "makes": {"what": "model", "path": "zero/model", "sha256": ...}}}}

`inputs` are what came from outside; with an adapter comes its base, as `model.base`. A stage is entered once, when
it has finished. Before its first step the digests of what it takes from outside are noted in RUN/STAGE/inputs.json, and
asked for whenever it goes on: every loop reads them anew. What a name stands for doesn't change within a run.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longjing.errors import UserError
from longjing.files import digest, disk_errors
from longjing.learning.stage import DATA, MODEL, REWARD_MODEL
from longjing.model.store.adapter import base_of
from longjing.recipe.stages import Reference, makes, references
from longjing.runs import RunDirectory, StageDirectory
from longjing.runs.models import weights_path
from longjing.runs.resolve import resolve

FILE, INPUTS = "lineage.json", "inputs.json"


def begin(run: RunDirectory, recipe: Mapping[str, Any], stage: Mapping[str, Any]) -> None:
    """Note what an unfinished stage takes from outside, before its first step; of one that has begun, hold it against
    what was noted then. Raises UserError for what has been replaced since, or since another stage took it."""
    directory, inputs = run.stage(stage["name"]), _entered(run)["inputs"]
    digests = {name: digest(path) for _, name, path in _taken(recipe, stage) if path is not None}
    noted = run.read_json(f"{directory.name}/{INPUTS}") if directory.begun else None
    for name, now in digests.items():
        if name in inputs and inputs[name]["sha256"] != now:
            raise UserError(_replaced_between(run, directory, name, inputs[name]["sha256"], now))
        if noted is not None and noted.get(name, now) != now:
            when = datetime.fromtimestamp((directory.path / INPUTS).stat().st_mtime)
            raise UserError(
                f"{name}, with which {directory.name} began, has changed since {when:%Y-%m-%d %H:%M}, when it was "
                f"noted: its SHA-256 was {noted[name]} and is {now}. Put the old one back, or delete {directory.path}, "
                "and the stage begins again with the new one"
            )
    if digests and noted is None:
        with disk_errors(directory.path):
            directory.path.mkdir(exist_ok=True)
        run.write_json(f"{directory.name}/{INPUTS}", digests)


def record(run: RunDirectory, recipe: Mapping[str, Any], stage: Mapping[str, Any]) -> None:
    """Enter a finished stage, unless it is there already."""
    lineage = _entered(run)
    if stage["name"] in lineage["stages"]:
        return
    taken, what = list(_taken(recipe, stage)), makes(stage["kind"])
    made = product(run.stage(stage["name"]), what)
    noted = run.read_json(f"{stage['name']}/{INPUTS}") or {}  # nothing, in a run of an earlier version
    for _, name, path in taken:
        if path is not None and name not in lineage["inputs"]:
            lineage["inputs"][name] = {"sha256": noted.get(name) or digest(path)}
    lineage["stages"][stage["name"]] = {
        "kind": stage["kind"],
        "version": version("longjing"),
        **{key: recipe[key] for key in ("seed", "device", "dtype", "threads")},
        "settings": {key: value for key, value in stage.items() if key not in ("kind", "name", "gate")},
        "takes": {place: name for place, name, _ in taken},
        "makes": {"what": what, "path": str(made.relative_to(run.path)), "sha256": digest(made)},
    }
    run.write_json(FILE, lineage)


def prune(run: RunDirectory) -> None:
    """Take out the stages that aren't finished: somebody deleted them, so that they begin again."""
    lineage = _entered(run)
    kept = {name: made for name, made in lineage["stages"].items() if run.stage(name).result is not None}
    if len(kept) < len(lineage["stages"]):
        taken = {name for made in kept.values() for name in made["takes"].values()}
        inputs = {name: of for name, of in lineage["inputs"].items() if name in taken}
        run.write_json(FILE, {"inputs": inputs, "stages": kept})


def located(reference: Reference) -> Path:
    """The path of what a reference to the world outside the run names; of a sampling stage's directory, its data.
    Raises UserError where a model is wanted and there is none."""
    if reference.wanted in (MODEL, REWARD_MODEL):
        return resolve(reference.name, reward=reference.wanted == REWARD_MODEL)
    path = Path(reference.name)
    return path / "data.jsonl" if reference.wanted == DATA and path.is_dir() else path


def _entered(run: RunDirectory) -> dict[str, Any]:
    return run.read_json(FILE) or {"inputs": {}, "stages": {}}


def _taken(recipe: Mapping[str, Any], stage: Mapping[str, Any]) -> Iterator[tuple[str, str, Path | None]]:
    """What the stage takes: its place in the settings, what the lineage calls it, and where it lies if that is outside
    the run. An adapter's base comes after it."""
    own = {each["name"] for each in recipe["stages"]}
    for reference in references(stage):
        place = ".".join(map(str, reference.path))
        if reference.name in own:
            yield place, reference.name, None
            continue
        path, is_run = located(reference), (Path(reference.name) / "recipe.yaml").exists()
        # Another run's name stands for its model.
        yield place, str(path) if reference.wanted == REWARD_MODEL and is_run else reference.name, path
        if reference.wanted in (MODEL, REWARD_MODEL) and (base := base_of(path)) is not None:
            yield f"{place}.base", base, weights_path(path)


def _replaced_between(run: RunDirectory, stage: StageDirectory, name: str, was: str, now: str) -> str:
    took = [each for each, made in _entered(run)["stages"].items() if name in made["takes"].values()]
    begun = [each.name for each in run.stages() if each.begun]
    again = begun[min(map(begun.index, took)) :]
    return (
        f"{stage.name} takes {name}, which has changed since {' and '.join(took)} took it: its SHA-256 was {was} "
        f"and is {now}. A name stands for one thing in a run: put the old one back, give the new one another name, "
        f"or delete {', '.join(str(run.path / each) for each in again)}, and what is deleted begins again with the new "
        "one"
    )


def product(stage: StageDirectory, what: str) -> Path:
    """The path of a stage's product: its data, or its model."""
    return stage.data.path if what == DATA else stage.model_path
