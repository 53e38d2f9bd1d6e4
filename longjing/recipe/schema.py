"""A recipe: stages, run in order, and what they share.

    name: r1-zero
    seed: 0
    stages:
      - {kind: reinforce, name: zero, model: base, ...}

The settings of a stage are those of its loop in `learning/` (`stages.py`). What they can't honour is refused here,
before any work.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from longjing import tasks
from longjing.evaluation.result import FIGURES
from longjing.learning.stage import MODEL
from longjing.model.device import choose_device, choose_dtype
from longjing.planning.bill import Prices
from longjing.recipe.gates import Gate, listed
from longjing.recipe.stages import AnyStage, Stage, makes, one, references
from longjing.tasks import Task
from longjing.validation import did_you_mean, did_you_mean_or_known

# What a gate on a task may ask for; nobody states a price, so nothing costs money.
MEASURED = [figure for figure in FIGURES if not figure.startswith("money")]


def _refusal(location: tuple[str | int, ...], reason: str) -> ValidationError:
    """What a validator raises so that it is reported with the line of `place`."""
    error = PydanticCustomError("value_error", reason)
    return ValidationError.from_exception_data("Recipe", [{"type": error, "loc": location, "input": None}])


def _infinite(data: Any, *path: str | int) -> Iterator[tuple[tuple[str | int, ...], float]]:
    """The numbers in plain data that are none or not finite, with their places."""
    if isinstance(data, float) and not isfinite(data):
        yield path, data
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list | tuple) else ()
    for key, value in items:
        yield from _infinite(value, *path, key)


class MeasureSettings(BaseModel):
    """What every checkpoint of the run is measured on, to be compared: one table at the end.

    The defaults are the paper's way of sampling (temperature 0.6, top-p 0.95) with fewer samples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: dict[str, dict[str, Any]] = Field(
        description="settings of the tasks, by name; a label of one's own goes with the setting `name`"
    )
    problems: int = Field(100, ge=1, description="of the test split")
    samples: int = Field(4, ge=1, description="of each problem")
    temperature: float = Field(0.6, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(512, ge=1)

    @field_validator("tasks")
    @classmethod
    def _tasks_exist(cls, data: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """With the digests of what is in files, as in `TaskReference`."""
        result = {}
        for label, settings in data.items():
            with_digest = tasks.with_digest({"name": label} | settings)
            tasks.get(**with_digest)
            result[label] = {key: with_digest[key] for key in with_digest if key != "name" or "name" in settings}
        return result

    def task(self, label: str) -> Task:
        return tasks.get(**({"name": label} | self.tasks[label]))


class Recipe(BaseModel):
    """Stages, to be run in order, and what they share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^\w[\w.-]*$", description="also the default directory, runs/NAME")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps, or auto: the fastest that is there")
    dtype: str = Field("float32", description="float32 or bfloat16")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of an update, all cores if not given; small models decode on one"
    )
    prices: Prices = Field(default_factory=Prices, description="what the bill assumes")
    measure: MeasureSettings | None = Field(None, description="what every checkpoint is measured on")
    final: str | None = Field(None, description="the stage whose model is the run's; the last if not given")
    quick: dict[str, dict[str, Any]] = Field(
        {}, exclude=True, description="changes, by stage, that make the recipe run in seconds"
    )
    stages: list[AnyStage] = Field(min_length=1)

    @model_validator(mode="after")
    def _numbers_are_finite(self) -> Self:
        if infinite := next(_infinite(self.model_dump()), None):
            location, value = infinite
            raise _refusal(location, f"`{location[-1]}` is {value}: a setting has to be a finite number")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two stages are called {twice!r}; give each its own name")
        if self.final is not None and self.final not in names:
            near = did_you_mean_or_known(self.final, names)
            raise _refusal(("final",), f"`final` is {self.final!r}, and no stage is{near}")
        made = {stage.name: makes(stage.kind) for stage in self.stages}
        if self.final is not None and made[self.final] != MODEL:
            raise _refusal(("final",), f"`final` is {self.final}, which makes {one(made[self.final])}, not a model")
        for name in self.quick:
            if name not in (*names, "measure"):
                raise ValueError(f"`quick` changes {name!r}, and no stage is called so{did_you_mean(name, names)}")
        return self

    @model_validator(mode="after")
    def _gates_ask_for_what_is_measured(self) -> Self:
        for index, stage in enumerate(self.stages):
            for number, gate in enumerate(listed(stage.gate)):
                if complaint := self._complaint(stage, gate):
                    setting, reason = complaint
                    at = (number, setting) if isinstance(stage.gate, list) else (setting,)
                    raise _refusal(("stages", index, "gate", *at), f"the gate of {stage.name} asks for {reason}")
        return self

    def _complaint(self, stage: Stage, gate: Gate) -> tuple[str, str] | None:
        """The setting of a gate of the stage that can't be honoured, and why; None if all can."""
        if (task := gate.task) is None:
            if gate.metric in (figures := stage.declared.figures(stage)):
                return None
            near = did_you_mean_or_known(gate.metric, figures)
            return "metric", f"`{gate.metric}` without a task, and the stage logs no such figure{near}"
        table = [] if self.measure is None or makes(stage.kind) != MODEL else list(self.measure.tasks)
        if task not in (measured := table + stage.declared.measured(stage)):
            near = did_you_mean_or_known(task, measured) if measured else ""
            return "task", f"the task {task!r}, on which nothing is measured{near}"
        metrics = [*MEASURED, "language"] if task in table else [*MEASURED]
        if gate.metric not in metrics:
            near = did_you_mean_or_known(gate.metric, metrics)
            return "metric", f"`{gate.metric}` on {task}, which isn't measured{near}"
        if gate.rise_at_least is not None and task in table and not isinstance(getattr(stage, "model", None), str):
            reason = "a rise, and the stage begins with no model; ask for `at_least` or `at_most`"
            return "rise_at_least", reason
        return None

    @model_validator(mode="after")
    def _stages_take_what_is_made_before(self) -> Self:
        made = {stage.name: makes(stage.kind) for stage in self.stages}
        before: set[str] = set()
        for index, stage in enumerate(self.stages):
            for reference in references(stage.model_dump()):
                at, what = ("stages", index, *reference.path), made.get(reference.name)
                takes = f"{stage.name} takes `{reference.path[0]}` from {reference.name}, which"
                if what is not None and reference.name not in before:
                    raise _refusal(at, f"{takes} doesn't come before it")
                if what is not None and what != reference.wanted:
                    raise _refusal(at, f"{takes} makes {one(what)}, not {one(reference.wanted)}")
            before.add(stage.name)
        return self

    @property
    def talks(self) -> bool:
        """Whether a run of it ends with a model that one can talk to."""
        return any(makes(stage.kind) == MODEL for stage in self.stages)

    def here(self) -> "Recipe":
        """The recipe with what this machine decides filled in: device and threads.

        Raises UserError if this machine has no such device or number format.
        """
        import torch

        device = choose_device(self.device)
        choose_dtype(self.dtype, device)
        return self.model_copy(update={"device": str(device), "threads": self.threads or torch.get_num_threads()})

    def to_dict(self) -> dict[str, Any]:
        """Every setting, as plain data; the kind and the name of a stage first."""
        recipe = self.model_dump(mode="json")
        first = ("kind", "name")
        recipe["stages"] = [{key: stage[key] for key in first} | stage for stage in recipe["stages"]]
        return recipe
