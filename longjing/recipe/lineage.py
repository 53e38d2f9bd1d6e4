"""The lineage of a run: which checkpoint, data and settings made which, as RUN/lineage.json.

    {"inputs": {"base": {"sha256": ...}},
     "stages": {"zero": {"kind", "version", "seed", "device", "dtype", "threads", "settings",
                         "takes": {"model": "base"},
                         "makes": {"what": "model", "path": "zero/model", "sha256": ...}}}}

`inputs` are what came from outside. A stage is entered once, when it has finished. Before its first step the digests of
what it takes from outside are noted in RUN/STAGE/inputs.json, and asked for whenever it goes on: every loop reads them
anew. What a name stands for doesn't change within a run.
"""

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longjing.errors import UserError
from longjing.files import digest, disk_errors
from longjing.learning.stage import DATA, MODEL, REWARD_MODEL
from longjing.recipe.stages import Reference, makes, references
from longjing.runs import RunDirectory, StageDirectory
from longjing.runs.resolve import resolve

FILE, INPUTS = "lineage.json", "inputs.json"


def begin(run: RunDirectory, recipe: Mapping[str, Any], stage: Mapping[str, Any]) -> None:
    """Note what an unfinished stage takes from outside, before its first step; of one that has begun, hold it against
    what was noted then. Raises UserError for what has been replaced since, or since another stage took it."""
    directory, inputs = run.stage(stage["name"]), _entered(run)["inputs"]
    outside = _outside(recipe, stage)
    digests = {name: digest(located(reference)) for name, reference in outside.items()}
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
    outside, what = _outside(recipe, stage), makes(stage["kind"])
    path = product(run.stage(stage["name"]), what)
    noted = run.read_json(f"{stage['name']}/{INPUTS}") or {}  # nothing, in a run of an earlier version
    for name, reference in outside.items():
        if name not in lineage["inputs"]:
            lineage["inputs"][name] = {"sha256": noted.get(name) or digest(located(reference))}
    lineage["stages"][stage["name"]] = {
        "kind": stage["kind"],
        "version": version("longjing"),
        **{key: recipe[key] for key in ("seed", "device", "dtype", "threads")},
        "settings": {key: value for key, value in stage.items() if key not in ("kind", "name", "gate")},
        "takes": {".".join(map(str, taken.path)): _called(recipe, taken) for taken in references(stage)},
        "makes": {"what": what, "path": str(path.relative_to(run.path)), "sha256": digest(path)},
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


def _outside(recipe: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Reference]:
    """What the stage takes from outside the run, by what the lineage calls it."""
    own = {each["name"] for each in recipe["stages"]}
    return {_called(recipe, taken): taken for taken in references(stage) if taken.name not in own}


def _called(recipe: Mapping[str, Any], taken: Reference) -> str:
    """Its name; but of another run that stands for its model, the reward model goes by its path."""
    own = any(each["name"] == taken.name for each in recipe["stages"])
    run = taken.wanted == REWARD_MODEL and not own and (Path(taken.name) / "recipe.yaml").exists()
    return str(located(taken)) if run else taken.name


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
