"""What pydantic found wrong with settings or data, as one sentence for a person, the name that may have been meant, and
the YAML files beside the code, which are checked when they are read.

A validator may raise `UserError` (a `ValueError`) or call what raises it: pydantic takes its message over.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from longjing.errors import UserError

T = TypeVar("T")
# The former is ten times as fast, where it was built.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Strict(BaseModel):
    """Data in which nothing is missing and nothing unknown, no text stands for a number, and nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def explain_settings(error: ValidationError, settings_type: type[BaseModel]) -> str:
    """What is wrong with the settings of this type, in one sentence: an unknown one first."""
    first = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    setting = ".".join(map(str, first["loc"]))
    names = [field.alias or name for name, field in settings_type.model_fields.items()]
    if first["type"] == "extra_forbidden":
        return f"no setting {setting!r}{nearest(setting, names)}; the settings are: {', '.join(names) or 'none'}"
    if first["type"] == "missing":
        return f"the setting {setting!r} is missing"
    return f"setting {setting!r} is {first['input']!r}: {reason(first)}" if setting else reason(first)


def explain_data(error: ValidationError) -> str:
    """What is wrong with data, and where: `messages.0.role: Field required`. Where a value may have several forms, what
    is wrong with the one that it comes nearest to."""
    deepest = _deepest(error)
    # Pydantic puts the name of the form that it tried (`str`, `list[Message]`) among the keys.
    where = ".".join(str(part) for part in deepest["loc"] if part != "str" and "[" not in str(part))
    return f"{where}: {reason(deepest)}" if where else reason(deepest)


def location(error: ValidationError) -> tuple[str | int, ...]:
    """The place of what `explain_data` explains: keys and indices from the outermost on."""
    return _deepest(error)["loc"]


def _deepest(error: ValidationError) -> Any:
    return max(error.errors(), key=lambda detail: len(detail["loc"]))


def reason(detail: Mapping[str, Any]) -> str:
    """The message of one of `ValidationError.errors()`; a validator's own without pydantic's prefix."""
    return str(detail["msg"]).removeprefix("Value error, ")


def nearest(word: str, names: Sequence[str]) -> str:
    """The question ` (did you mean 'X'?)`, or nothing if no name is near."""
    return "".join(f" (did you mean {name!r}?)" for name in get_close_matches(word, names, n=1))


def did_you_mean(word: str, names: Sequence[str]) -> str:
    """The question ``; did you mean `X`?``, as a recipe's errors put it, or nothing if no name is near."""
    return "".join(f"; did you mean `{name}`?" for name in get_close_matches(word, names, n=1))


def did_you_mean_or_known(word: str, names: Sequence[str]) -> str:
    """The name that is near, or else all of them."""
    return did_you_mean(word, names) or f"; known are: {', '.join(names)}"


def read_yaml(code_file: str, name: str, schema: type[T]) -> T:
    """The content of the YAML file `name` beside a module (its `__file__`); `schema` is whatever pydantic checks.
    Raises UserError, naming file and line, for what isn't YAML or doesn't fit the schema."""
    path = Path(code_file).with_name(name)
    loader = _Loader(path.read_text("utf-8"))
    try:
        root = loader.get_single_node()
        content = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem}") from None
    finally:
        loader.dispose()
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as error:
        raise UserError(f"{path}, line {line_of(root, location(error))}: {explain_data(error)}") from None


def line_of(node: yaml.Node, location: Sequence[str | int]) -> int:
    """The line (from 1) of what stands at `location` (keys and list indices) in a document, or of what holds it."""
    line: int = node.start_mark.line + 1
    for step in location:
        if isinstance(node, yaml.MappingNode):
            children = {key.value: (key, value) for key, value in node.value}
            if str(step) not in children:
                break
            key, node = children[str(step)]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line + 1
    return line
