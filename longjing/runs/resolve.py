"""Which model a user means: a path, a run or one of its stages, a shipped model's name, or one that is fetched."""

import json
from pathlib import Path

import yaml

from longjing.errors import UserError
from longjing.gguf import SUFFIX
from longjing.runs.fetch import SMOLLM2, from_hub, is_hub_name, smollm2

SHIPPED = Path(__file__).parents[1] / "models"

_CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_MAKES = "makes.json"
# What the kinds of stages make of which a run of an earlier version doesn't say it; the others made models.
_MADE = {"reward-model": "reward model", "sample": "data"}


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(directory.name for directory in SHIPPED.iterdir() if holds_model(directory))


def holds_model(directory: Path) -> bool:
    """Whether a model lies here, or an adapter."""
    return any((directory / name).exists() for name in (_CONFIG, _ADAPTER))


def resolve(name_or_path: str | Path, reward: bool = False) -> Path:
    """The model directory, or GGUF file, that a user means: a path, a run or one of its stages, a shipped model's name
    (`r1`, or in full `longjing-r1`), `smollm2`, or a name on the Hugging Face Hub (`Qwen/Qwen2.5-0.5B-Instruct`). The
    last two are fetched unless they are here.

    Of a run it is the model of the recipe's `final` stage, before that is done (or where none is named) of the last
    stage that has one; where a `reward` model is wanted, that of the only stage that makes one. Raises UserError if
    it is none of these.
    """
    path = Path(name_or_path)
    if path.is_file():
        if path.suffix == SUFFIX:
            return path
        raise UserError(f"{path} is no model: give a GGUF file, or the directory of a model in Hugging Face's form")
    if path.is_dir():
        for directory in (path, path / "model"):
            if holds_model(directory):
                return directory
        if (path / "recipe.yaml").exists():
            return _of_run(path, reward)
    if (name := str(name_or_path).removeprefix("longjing-")) in shipped():
        return SHIPPED / name  # even where some folder without a model is called so, too
    if path.is_dir():
        return path
    if name == SMOLLM2:
        return smollm2()
    if is_hub_name(str(name_or_path)):
        return from_hub(str(name_or_path))
    names = ", ".join([*shipped(), SMOLLM2])
    raise UserError(
        f"no model {str(name_or_path)!r}: no such directory or GGUF file, no shipped model ({names}), and no name on "
        "the Hugging Face Hub, which has the form owner/name"
    )


def lasting_name(name_or_path: str | Path) -> str:
    """What stands for the model in a file: its name if it is shipped or fetched, else its absolute path."""
    path = resolve(name_or_path)
    if path.parent == SHIPPED:
        return path.name
    return str(path.resolve() if Path(name_or_path).exists() else name_or_path)


def _of_run(run: Path, reward: bool) -> Path:
    """The model of a run; see `resolve`."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    makes = {stage["name"]: _MADE.get(stage["kind"], "model") for stage in recipe["stages"]}
    if (run / _MAKES).exists():
        makes |= json.loads((run / _MAKES).read_text(encoding="utf-8"))
    reward_models = [name for name, what in makes.items() if what == "reward model"]
    if reward:
        wanted, candidates = "reward model", reward_models
        if len(candidates) > 1:
            choices = " or ".join(str(run / name) for name in candidates)
            raise UserError(f"{run}: this run makes several reward models; say {choices}")
    else:
        wanted = "model that talks"
        candidates = [name for name in reversed(makes) if makes[name] == "model"]
        candidates.sort(key=lambda name: name != recipe.get("final"))  # the final stage first, if one is named
    if not candidates:
        others = ", ".join(f"{name} is a reward model: {run / name}" for name in reward_models)
        raise UserError(f"{run}: this run makes no {wanted}" + (f" ({others})" if others else ""))
    for name in candidates:
        if holds_model(run / name / "model"):
            return run / name / "model"
    raise UserError(f"{run}: no stage of this run that makes a {wanted} has finished yet")
