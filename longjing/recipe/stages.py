"""The stages of a recipe: the settings of their kinds (`learning/kinds.py`), and what a recipe adds to them.

A stage has a name and may have a gate. It makes one thing (a model, data, a reward model), and where it takes one,
the name of an earlier stage may stand in place of a path.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, SerializeAsAny, create_model

from longjing.learning.kinds import KINDS
from longjing.learning.stage import DATA, PREFERENCES, StageKind
from longjing.recipe.gates import Gates
from longjing.runs import migration
from longjing.validation import did_you_mean_or_known

StageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="its directory in the run")]


class Stage(BaseModel):
    """What every stage has, beside the settings of its kind."""

    kind: str
    name: StageName
    gate: Gates | None = None

    @property
    def declared(self) -> StageKind:
        """What its kind declares."""
        return KINDS[self.kind]


@cache
def stage_type(kind: str) -> type[Stage]:
    """The settings of a kind of stage, as a recipe has them."""
    settings: Any = KINDS[kind].settings
    return create_model(settings.__name__, __base__=(settings, Stage), name=(StageName, kind))


def _read(data: Any) -> Any:
    """The stage that plain data say, by its kind."""
    if not isinstance(data, Mapping):
        return data
    kind = data.get("kind")
    if kind is None:
        raise ValueError(f"a stage needs its `kind`: {' or '.join(KINDS)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"there is no stage of the kind `{kind}`{did_you_mean_or_known(str(kind), list(KINDS))}")
    return stage_type(kind).model_validate(migration.settings(kind, data))


AnyStage = Annotated[SerializeAsAny[Stage], BeforeValidator(_read)]


@dataclass(frozen=True)
class Reference:
    """A place in a stage's settings where the name of an earlier stage may stand, and what stands there."""

    path: tuple[str | int, ...]
    name: str
    wanted: str


def references(stage: Mapping[str, Any]) -> list[Reference]:
    """What a stage (its settings as plain data) takes: from earlier stages, or from outside the run."""
    result: list[Reference] = []
    for dotted, wanted in KINDS[stage["kind"]].takes.items():
        path = tuple(dotted.split("."))
        value: Any = stage
        for key in path:
            value = (value or {}).get(key)
        if isinstance(value, str):
            result.append(Reference(path, value, wanted))
        elif isinstance(value, list):
            result += [Reference((*path, index), name, wanted) for index, name in enumerate(value)]
    return result


def makes(kind: str) -> str:
    return KINDS[kind].makes


def one(what: str) -> str:
    """`a model`, but `data`."""
    return what if what in (DATA, PREFERENCES) else f"a {what}"
