"""The lineage of a run: which checkpoint, data and settings made which, as RUN/lineage.json.

    {"inputs": {"base": {"sha256": ...}},
     "stages": {"zero": {"kind", "version", "seed", "device", "dtype", "threads", "settings",
                         "takes": {"model": "base"},
                         "makes": {"what": "model", "path": "zero/model", "sha256": ...}}}}

`inputs` are what came from outside. A stage is entered once, when it has finished.
"""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from longjing.model.files import resolve
from longjing.recipe.stages import DATA, MODEL, REWARD_MODEL, Reference, makes, references
from longjing.runs import RunDirectory
from longjing.runs.files import digest

FILE = "lineage.json"


def record(run: RunDirectory, recipe: Mapping[str, Any], stage: Mapping[str, Any]) -> None:
    """Enter a finished stage, unless it is there already."""
    lineage = run.read_json(FILE) or {"inputs": {}, "stages": {}}
    if stage["name"] in lineage["stages"]:
        return
    own = {each["name"] for each in recipe["stages"]}
    taken = references(stage)
    for reference in taken:
        if reference.name not in own | lineage["inputs"].keys():
            lineage["inputs"][reference.name] = {"sha256": digest(located(reference))}
    lineage["stages"][stage["name"]] = {
        "kind": stage["kind"],
        "version": version("longjing"),
        **{key: recipe[key] for key in ("seed", "device", "dtype", "threads")},
        "settings": {key: value for key, value in stage.items() if key not in ("kind", "name", "gate")},
        "takes": {".".join(map(str, reference.path)): reference.name for reference in taken},
        "makes": _made(run, stage),
    }
    run.write_json(FILE, lineage)


def prune(run: RunDirectory) -> None:
    """Take out the stages that aren't finished: somebody deleted them, so that they begin again."""
    lineage = run.read_json(FILE) or {"inputs": {}, "stages": {}}
    kept = {name: made for name, made in lineage["stages"].items() if run.stage(name).result is not None}
    if len(kept) < len(lineage["stages"]):
        taken = {name for made in kept.values() for name in made["takes"].values()}
        inputs = {name: of for name, of in lineage["inputs"].items() if name in taken}
        run.write_json(FILE, {"inputs": inputs, "stages": kept})


def located(reference: Reference) -> Path:
    """Where that lies which a reference to the world outside the run names; of a sampling stage's directory, its data.
    Raises UserError where a model is wanted and there is none."""
    if reference.wanted in (MODEL, REWARD_MODEL):
        return resolve(reference.name, reward=reference.wanted == REWARD_MODEL)
    path = Path(reference.name)
    return path / "data.jsonl" if reference.wanted == DATA and path.is_dir() else path


def _made(run: RunDirectory, stage: Mapping[str, Any]) -> dict[str, Any]:
    directory, what = run.stage(stage["name"]), makes(stage["kind"])
    path = directory.data.path if what == DATA else directory.model_path
    return {"what": what, "path": str(path.relative_to(run.path)), "sha256": digest(path)}
