"""Reading a recipe: whatever can't be honoured is refused with its line, the reason, and the nearest name."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from longjing.errors import UserError
from longjing.recipe.document import Document, parse_value
from longjing.recipe.names import nearest, nearest_or_known
from longjing.recipe.schema import KINDS, Recipe

_RECIPES = Path(str(resources.files("longjing.recipe") / "recipes"))


@dataclass(frozen=True)
class Change:
    """One `--set`: the value goes to each of `paths` (keys and list indices) in the recipe's data."""

    text: str
    paths: list[tuple[str | int, ...]]
    value: Any

    def apply(self, data: Any) -> None:
        for *parents, last in self.paths:
            place = data
            for depth, key in enumerate(parents):
                if isinstance(place, dict) and key not in place:
                    place[key] = {}
                place = place[key]
                if not isinstance(place, dict | list):
                    at = ".".join(map(str, parents[: depth + 1]))
                    raise UserError(f"--set {self.text}: {at} is {place!r}, which has no settings of its own")
            place[last] = self.value


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def load(name_or_path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """A recipe by its name in the package or by its file, with `key=value` changes.

    Raises UserError that names the file, the line, the setting and the mend.
    """
    document = Document.read(_find(name_or_path))
    recipe = _validate(document, document.data, [])
    if not changes:
        return recipe
    parsed = [_parse_change(text, recipe) for text in changes]
    data = recipe.to_dict()
    for change in parsed:
        change.apply(data)
    return _validate(document, data, parsed)


def parse_settings(changes: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs as settings, of a task say."""
    pairs = [change.partition("=") for change in changes]
    for key, equals, value in pairs:
        if not equals or not key.strip():
            raise UserError(f"--set {key}{equals}{value}: write KEY=VALUE, for example --set difficulty=2")
    return {key.strip(): parse_value(value) for key, _, value in pairs}


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_file():
        return path
    if (shipped := _RECIPES / f"{name_or_path}.yaml").is_file():
        return shipped
    raise UserError(
        f"no recipe {str(name_or_path)!r}{nearest(str(name_or_path), names())}: no such file, "
        f"and the recipes of the package are: {', '.join(names())}"
    )


def _validate(document: Document, data: Any, changes: list[Change]) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        details = sorted(error.errors(), key=lambda detail: document.line(_without_tag(detail["loc"])))
        lines = [f"  {_place(document, detail, changes)}: {_complaint(detail, data)}" for detail in details]
        raise UserError("\n".join([f"{document.name} can't be run as it is:", *lines])) from None


def _place(document: Document, detail: Any, changes: list[Change]) -> str:
    location = _without_tag(detail["loc"])
    for change in changes:
        if any(location[: len(path)] == path or path[: len(location)] == location for path in change.paths):
            return f"--set {change.text}"
    return f"line {document.line(location)}"


def _complaint(detail: Any, data: Any) -> str:
    """What is wrong, in words, with the nearest name for one that doesn't exist."""
    location = _without_tag(detail["loc"])
    key = str(location[-1]) if location else "the recipe"
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _fields(data, location)
        return f"there is no setting `{key}`{nearest_or_known(key, known)}"
    if kind == "missing":
        return f"the setting `{key}` is missing"
    if kind == "union_tag_not_found":
        return f"a stage needs its `kind`: {' or '.join(KINDS)}"
    if kind == "union_tag_invalid":
        tag = detail["ctx"]["tag"]
        return f"there is no stage of the kind `{tag}`{nearest_or_known(tag, list(KINDS))}"
    if kind == "value_error":
        return str(detail["msg"]).removeprefix("Value error, ")
    message = detail["msg"]
    return f"`{key}` is {detail['input']!r}: {message[:1].lower()}{message[1:]}"


def _fields(data: Any, location: tuple[str | int, ...]) -> list[str]:
    """The settings that exist where `location` says: in the recipe, a stage, or a part of a stage."""
    if location[0] != "stages":
        return list(Recipe.model_fields)
    model: type[BaseModel] = KINDS[data["stages"][location[1]]["kind"]]
    for part in location[2:-1]:
        model = model.model_fields[str(part)].annotation  # type: ignore[assignment]
    return list(model.model_fields)


def _without_tag(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The place in the file: pydantic adds the kind of the stage after its index."""
    return location[:2] + location[3:] if location[:1] == ("stages",) else location


def _parse_change(text: str, recipe: Recipe) -> Change:
    key, equals, value = text.partition("=")
    first, *rest = key.strip().split(".")
    if not equals or not first or not all(rest):
        example = f"{recipe.stages[0].name}.steps=9"
        raise UserError(f"--set {text}: write KEY=VALUE, for example --set seed=1 or --set {example}")
    return Change(text, _paths(text, first, rest, recipe), parse_value(value))


def _paths(text: str, first: str, rest: list[str], recipe: Recipe) -> list[tuple[str | int, ...]]:
    """Where a dotted key leads: to the recipe, to a stage by its name, or to the stages that have it."""
    if first in Recipe.model_fields:
        return [(first, *rest)]
    stages = {stage.name: index for index, stage in enumerate(recipe.stages)}
    if first in stages and rest:
        return [("stages", stages[first], *rest)]
    having = [stage for stage in recipe.stages if first in type(stage).model_fields]
    if len({stage.kind for stage in having}) > 1:
        choices = " or ".join(f"{stage.name}.{first}" for stage in having)
        raise UserError(f"--set {text}: stages of several kinds have the setting `{first}`; say {choices}")
    if not having:
        settings = [name for stage in recipe.stages for name in type(stage).model_fields]
        near = nearest(first, [*Recipe.model_fields, *stages, *settings])
        raise UserError(f"--set {text}: the recipe {recipe.name} has no setting `{first}`{near}")
    return [("stages", stages[stage.name], first, *rest) for stage in having]
