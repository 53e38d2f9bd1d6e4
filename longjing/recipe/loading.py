"""Reading a recipe: whatever can't be honoured is refused with its line, the reason, and the nearest name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from longjing.errors import UserError
from longjing.learning.stage import MODEL
from longjing.recipe.schema import Recipe
from longjing.recipe.stages import one, references, stage_type
from longjing.recipe.yaml_document import RecipeDocument, parse_value
from longjing.runs import migration
from longjing.runs.resolve import shipped
from longjing.validation import did_you_mean, did_you_mean_or_known, reason

_SHARED = ("memory", "save_every", "activation_checkpointing")  # mean the same in stages of all kinds
_RECIPES = Path(str(resources.files("longjing.recipe") / "recipes"))


@dataclass(frozen=True)
class Change:
    """A value that goes to each of `paths` (keys and list indices) in the recipe's data. `origin`: who says so."""

    origin: str
    paths: list[tuple[str | int, ...]]
    value: Any

    def apply(self, data: Any) -> None:
        """Put the changes into the plain settings. Raises UserError if a path leads through what has no settings."""
        for path in self.paths:
            node = data
            for depth, key in enumerate(path):
                if isinstance(node, list) and str(key).isdigit() and int(key) < len(node):
                    key = int(key)
                elif not isinstance(node, dict):
                    at = ".".join(map(str, path[:depth]))
                    raise UserError(f"{self.origin}: {at} is {node!r}, which has no settings of its own")
                elif node.get(key) is None:
                    node[key] = {}
                if depth + 1 == len(path):
                    node[key] = self.value
                    if key == "name":
                        node.pop("sha256", None)  # of the file that was named before
                node = node[key]


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


def load(
    name_or_path: str | Path, changes: Sequence[str] = (), quick: bool = False, only: Sequence[str] = ()
) -> Recipe:
    """A recipe by its name in the package or by its file, with `key=value` changes.

    `quick`: with the recipe's own changes that make it run in seconds, before the others. `only`: these stages
    alone. Either adds to the recipe's name. Raises UserError that names the file, the line, the setting and the mend.
    """
    document = RecipeDocument.read(_find(name_or_path))
    recipe = _validate(document, document.data, [], document.data)
    made = _quick_changes(recipe, document) if quick else []
    made += [_parse_change(text, recipe) for text in changes]
    if made:
        data, before = recipe.to_dict(), recipe.to_dict()
        for change in made:
            change.apply(data)
        for stage in data["stages"]:
            if only and stage["name"] not in only:
                stage["gate"] = None  # nobody will come to it
        recipe = _validate(document, data, made, _kept(data, before, recipe))
    if quick:
        recipe = recipe.model_copy(update={"name": f"{recipe.name}-quick"})
    return _reduced(recipe, only) if only else recipe


def _quick_changes(recipe: Recipe, document: RecipeDocument) -> list[Change]:
    if not recipe.quick:
        raise UserError(f"{document.name} has no quick form: it needs `quick`, with settings for each stage")
    changes: list[Change] = []
    for first, settings in recipe.quick.items():
        for path, value in _leaves(settings):
            line, paths = document.line(("quick", first, *path)), _paths(f"quick.{first}", first, [*path], recipe)
            if any(paths == change.paths for change in changes):
                raise UserError(
                    f"{document.name}, line {line}: `{path[0]}` is given twice, by an old name and a new one"
                )
            changes.append(Change(f"line {line}", paths, value))
    return changes


def _kept(data: Any, before: Any, settings: Any) -> Any:
    """Plain data in which whatever is as `before` stands as the settings that were made of it: to be validated once."""
    if data == before:
        return settings
    if isinstance(settings, BaseModel) and isinstance(data, dict):
        return {key: _kept(value, before.get(key), getattr(settings, key, None)) for key, value in data.items()}
    if isinstance(settings, list) and isinstance(data, list) and len(settings) == len(data):
        return [_kept(*each) for each in zip(data, before, settings, strict=True)]
    return data


def _leaves(settings: dict[str, Any], *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The settings that are no groups of settings themselves, with their paths."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, *path, key)
        else:
            yield (*path, key), value


def _reduced(recipe: Recipe, only: Sequence[str]) -> Recipe:
    """The recipe with some of its stages. What they take from others has to be given."""
    names = [stage.name for stage in recipe.stages]
    for name in only:
        if name not in names:
            raise UserError(f"--only {name}: no stage is called so{did_you_mean_or_known(name, names)}")
    stages = [stage for stage in recipe.stages if stage.name in only]
    for stage in stages:
        for reference in references(stage.model_dump()):
            if reference.name in names and reference.name not in only:
                setting = ".".join(map(str, (stage.name, *reference.path)))
                mend = f"give another with --set {setting}=PATH"
                if reference.wanted == MODEL and reference.name in shipped():
                    mend += f", or the package's model of that name with --set {setting}=longjing-{reference.name}"
                raise UserError(
                    f"--only {stage.name}: it takes {one(reference.wanted)} from the stage {reference.name}, which is "
                    f"left out; {mend}"
                )
    final = recipe.final if recipe.final in only else None
    name = "-".join([recipe.name, *(stage.name for stage in stages)])
    return recipe.model_copy(update={"name": name, "stages": stages, "final": final})


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
    if (own := _RECIPES / f"{name_or_path}.yaml").is_file():
        return own
    raise UserError(
        f"no recipe {str(name_or_path)!r}{did_you_mean(str(name_or_path), names())}: no such file, "
        f"and the recipes of the package are: {', '.join(names())}"
    )


def _validate(document: RecipeDocument, data: Any, changes: list[Change], settings: Any) -> Recipe:
    """The recipe that `settings` make. `data`: the same as plain data, to explain what is wrong with them."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        details = sorted(
            ((_location(detail, data), detail) for detail in error.errors()), key=lambda pair: document.line(pair[0])
        )
        lines = [
            f"  {_place(document, location, changes)}: {_complaint(location, detail, data)}"
            for location, detail in details
            # Where one of several forms nearly fits, what is wrong inside it says more than that others don't.
            if not any(location == other[: len(location)] != other for other, _ in details)
        ]
        raise UserError("\n".join([f"{document.name} can't be run as it is:", *lines])) from None


def _location(detail: Any, data: Any) -> tuple[str | int, ...]:
    """The place in the file. Pydantic adds the kind of a stage, and the types of a choice, to the keys."""
    location: list[str | int] = []
    node = data
    for part in detail["loc"]:
        part = migration.spelled(node, part) if isinstance(node, dict) else part
        inside = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
        if part in inside:
            node = node[part]
            location.append(part)
    return (*location, detail["loc"][-1]) if detail["type"] == "missing" else tuple(location)


def _place(document: RecipeDocument, location: tuple[str | int, ...], changes: list[Change]) -> str:
    for change in changes:
        for path in change.paths:  # in which an index is text, as the person wrote it
            if all(str(part) == str(key) for part, key in zip(location, path, strict=False)):
                return change.origin
    return f"line {document.line(location)}"


def _complaint(location: tuple[str | int, ...], detail: Any, data: Any) -> str:
    """What is wrong, in words, with the nearest name for one that doesn't exist."""
    key = str(location[-1]) if location else "the recipe"
    kind = detail["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        names = _fields(data, location)
        today = next((table[key] for table in migration.SETTINGS.values() if key in table), None)
        if today in names:
            return f"`{key}` is called `{today}` now, and that is given, too; leave one of them out"
        return f"there is no setting `{key}`{did_you_mean_or_known(key, names) if names else ''}"
    if kind == "missing":
        return f"the setting `{key}` is missing"
    if kind == "value_error":
        return reason(detail)
    message = reason(detail)
    return f"`{key}` is {detail['input']!r}: {message[:1].lower()}{message[1:]}"


def _fields(data: Any, location: tuple[str | int, ...]) -> list[str]:
    """The settings that exist where `location` says: in the recipe, a stage, or a part of either."""
    model: type[BaseModel] | None = Recipe
    parts = location[:-1]
    if location[0] == "stages":
        model, parts = stage_type(data["stages"][location[1]]["kind"]), location[2:-1]
    for part in parts:
        if model is not None and part in model.model_fields:
            model = _model_in(model.model_fields[str(part)].annotation)
    return list(model.model_fields) if model is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings that a type holds: `Gate` of `Gate | None`, `TaskReference` of a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _parse_change(text: str, recipe: Recipe) -> Change:
    key, equals, value = text.partition("=")
    first, *rest = key.strip().split(".")
    if not equals or not first or not all(rest):
        example = f"{recipe.stages[0].name}.steps=9"
        raise UserError(f"--set {text}: write KEY=VALUE, for example --set seed=1 or --set {example}")
    paths, parsed = _paths(f"--set {text}", first, rest, recipe), parse_value(value)
    # `--set task=NAME`, which `--set task.SETTING=VALUE` may follow.
    named = {"name": parsed} if isinstance(parsed, str) and all(path[-1] == "task" for path in paths) else parsed
    return Change(f"--set {text}", paths, named)


def _paths(origin: str, first: str, rest: list[str], recipe: Recipe) -> list[tuple[str | int, ...]]:
    """Where a dotted key leads: to the recipe, to a stage by its name, or to the stages that have it."""
    if first in Recipe.model_fields:
        return [(first, *rest)]
    stages = {stage.name: index for index, stage in enumerate(recipe.stages)}
    if first in stages and rest:
        kind = recipe.stages[stages[first]].kind
        return [("stages", stages[first], migration.setting(kind, rest[0]), *rest[1:])]
    if first == "verifier":  # who brings a file of problems thinks of the two together
        first, rest = "task", [first, *rest]
    today = {migration.setting(stage.kind, first) for stage in recipe.stages}
    first = next((name for name in today if name != first), first)
    having = [stage for stage in recipe.stages if first in type(stage).model_fields]
    if len({stage.kind for stage in having}) > 1 and first not in _SHARED:
        choices = " or ".join(f"{stage.name}.{first}" for stage in having)
        raise UserError(f"{origin}: stages of several kinds have the setting `{first}`; say {choices}")
    if not having:
        settings = [name for stage in recipe.stages for name in type(stage).model_fields]
        near = did_you_mean(first, [*Recipe.model_fields, *stages, *settings])
        raise UserError(f"{origin}: the recipe {recipe.name} has no setting `{first}`{near}")
    return [("stages", stages[stage.name], first, *rest) for stage in having]
