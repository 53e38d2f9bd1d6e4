"""A recipe: stages, run in order, and what they share.

    name: r1-zero
    seed: 0
    stages:
      - {kind: reinforce, name: zero, model: base, ...}

The settings of a stage are those of its loop in `learning/`. What they
can't honour is refused here, before any work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from longjing import tasks
from longjing.errors import UserError
from longjing.learning import corpus
from longjing.learning.pretraining import PretrainingSettings
from longjing.learning.reinforcement import ReinforcementSettings, TaskSettings
from longjing.model.config import ModelConfig
from longjing.model.device import choose_device, choose_dtype
from longjing.recipe.names import nearest, nearest_or_known

StageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="its directory in the run")]


class Pretrain(PretrainingSettings):
    name: StageName = "pretrain"

    @field_validator("model")
    @classmethod
    def _network(cls, model: dict[str, Any]) -> dict[str, Any]:
        with _refusals():
            config = ModelConfig.from_dict(model | {"vocab_size": 512, "max_position_embeddings": 512})
        known = [*(entry.name for entry in fields(config)), *config.to_dict(), "rope_scaling"]
        for name in model:
            if name not in known:
                raise ValueError(f"a network has no `{name}`{nearest(name, known)}")
        return model

    @field_validator("corpus")
    @classmethod
    def _documents(cls, shares: dict[str, float]) -> dict[str, float]:
        for kind, share in shares.items():
            if kind not in corpus.KINDS:
                raise ValueError(f"there are no documents `{kind}`{nearest_or_known(kind, corpus.KINDS)}")
            if share < 0:
                raise ValueError(f"the share of `{kind}` is negative")
        if not any(shares.values()):
            raise ValueError("all shares are zero: there is nothing to read")
        return shares

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        with _refusals():
            for name, options in settings.items():
                tasks.get(name, **options)
        return settings


class Reinforce(ReinforcementSettings):
    name: StageName = "reinforce"

    @field_validator("task")
    @classmethod
    def _task(cls, task: TaskSettings) -> TaskSettings:
        with _refusals():
            task.make()
        return task


@contextmanager
def _refusals() -> Iterator[None]:
    """Pass on what another part refuses, so that it is reported with its line."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from None


Stage = Pretrain | Reinforce
KINDS: dict[str, type[Stage]] = {stage.model_fields["kind"].default: stage for stage in (Pretrain, Reinforce)}


class Recipe(BaseModel):
    """Stages, to be run in order, and what they share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[\w.-]+$", description="also the default directory, runs/NAME")
    description: str = ""
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = Field("auto", description="cpu, cuda, cuda:1, mps, or auto: the fastest that is there")
    dtype: str = Field("float32", description="float32 or bfloat16")
    threads: int | None = Field(None, ge=1, description="CPU threads; PyTorch's own choice if not given")
    stages: list[Annotated[Stage, Field(discriminator="kind")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [stage.name for stage in self.stages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two stages are called {twice!r}; give each its own name")
        return self

    def here(self) -> "Recipe":
        """The recipe with what this machine decides filled in: device and threads.

        Raises UserError if this machine has no such device or number format.
        """
        import torch

        device = choose_device(self.device)
        choose_dtype(self.dtype, device)
        return self.model_copy(
            update={"device": str(device), "threads": self.threads or torch.get_num_threads()}
        )

    def to_dict(self) -> dict[str, Any]:
        """Every setting, as plain data; the kind and the name of a stage first."""
        recipe = self.model_dump(mode="json")
        first = ("kind", "name")
        recipe["stages"] = [{key: stage[key] for key in first} | stage for stage in recipe["stages"]]
        return recipe
