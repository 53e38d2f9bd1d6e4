"""YAML that remembers its lines, and refuses what YAML would let pass: a key given twice."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from longjing.errors import UserError
from longjing.validation import line_of


class _Loader(yaml.SafeLoader):
    """YAML as people write it: no key twice, and 3e-6 is a number, as in YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in lines:
                first = lines[key.value]
                raise yaml.constructor.ConstructorError(
                    None, None, f"`{key.value}` is given twice, first in line {first}", key.start_mark
                )
            lines[key.value] = line_of(key, ())
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class RecipeDocument:
    """The data of a YAML file, and where in the file it stands."""

    name: str
    data: Any
    _root: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> "RecipeDocument":
        """The document in a file. Raises UserError, with the line, for one that can't be read or isn't YAML."""
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            root = loader.get_single_node()
            return cls(str(path), None if root is None else loader.construct_document(root), root)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UserError(f"{path} is not a text file in UTF-8") from None
        except yaml.YAMLError as error:
            raise UserError(f"{path}, {_explain(error)}") from None
        except ValueError as error:  # a date that no calendar has
            raise UserError(f"{path}: {error}") from None

    def line(self, location: tuple[str | int, ...]) -> int:
        """The line (from 1) of `location`, a path of keys and list indices, or of what holds it."""
        return 1 if self._root is None else line_of(self._root, location)


def parse_value(text: str) -> Any:
    """The value of a `key=value`, as a recipe would read it. Raises UserError if it isn't YAML."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"cannot read the value {text!r}: {_explain(error)}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error)
