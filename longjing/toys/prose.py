"""The prose of toys, which is data: YAML files beside their code, read once and checked."""

from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from longjing.errors import UserError
from longjing.validation import explain_data, location

T = TypeVar("T")
_Loader: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # the former is ten times as fast, where it was built


class Prose(BaseModel):
    """A part of a file: nothing is missing in it, nothing unknown, and nothing changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Bilingual(Prose, Generic[T]):
    """The same in both languages of the toys."""

    en: T
    zh: T

    def __getitem__(self, language: str) -> T:
        return {"en": self.en, "zh": self.zh}[language]


class Forms(Prose):
    """Other ways to word a task's problems and answers, where it has some.

    `short`: problems as people type them in a hurry; the gaps are those of `Toy.short_fields`. `answers`: sentences
    that state a result, whose gaps are `{box}` and the problem's data.
    """

    short: Bilingual[list[str]] | None = None
    answers: Bilingual[list[str]] | None = None


class Wording(Forms):
    """How a task's problems are worded: one of the `prompts` is taken, evenly."""

    prompts: Bilingual[list[str]]


def read_prose(code_file: str, name: str, schema: type[T]) -> T:
    """The content of the YAML file `name` beside a module (its `__file__`); `schema` is whatever pydantic checks.

    Raises UserError, naming file and line, for what isn't YAML or doesn't fit the schema.
    """
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
        raise UserError(f"{path}, line {_line(root, location(error))}: {explain_data(error)}") from None


def _line(node: Any, location: tuple[str | int, ...]) -> int:
    """The line of the innermost node that the location leads to."""
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
