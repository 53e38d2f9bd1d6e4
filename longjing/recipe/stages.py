"""The kinds of stages: the settings of a loop of `learning/`, and what a recipe adds to them.

A stage has a name and may have a gate. It makes one thing (a model, data, a reward model), and where it takes one,
the name of an earlier stage may stand in place of a path.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from longjing import tasks
from longjing.learning.distillation import Distillation, DistillationSettings
from longjing.learning.finetuning import Finetuning, FinetuningSettings
from longjing.learning.loop import Trainer
from longjing.learning.pretraining import Pretraining, PretrainingSettings
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings
from longjing.learning.rejection_sampling import SUMMED, RejectionSampling, RejectionSamplingSettings
from longjing.learning.reward_modeling import RewardModeling, RewardModelingSettings
from longjing.learning.settings import TaskSettings
from longjing.model.config import ModelConfig
from longjing.problems import max_turns
from longjing.recipe.gates import Gates
from longjing.toys import corpus
from longjing.validation import did_you_mean, did_you_mean_or_known

MODEL, DATA, REWARD_MODEL = "model", "data", "reward model"
PREFERENCES = "preference data"  # which no stage makes

# The numbers in what a stage logs of its steps and of its end: of one that reads data, and of one that samples its own.
_READING = ("step", "time", "tokens", "flops", "loss", "grad_norm", "learning_rate", "tokens_per_second")
_EPOCHS = ("steps", "epoch", "examples", "too_long")
_POLICY = (
    "step", "time", "accuracy", "language", "length_mean", "length_max", "reasoning_length_mean", "truncated",
    "unjudged", "entropy", "reflection", "loss", "kl", "clip_share", "ratio", "logprob_difference", "grad_norm",
    "learning_rate", "seconds_sampling", "seconds_judging", "seconds_updating", "tokens_sampled", "tokens_trained",
    "flops", "tokens_per_second_sampling", "tokens_per_second_updating",
)  # fmt: skip

StageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="its directory in the run")]


class Stage(BaseModel):
    """What every stage has. `takes`: the settings (dotted) that may name an earlier stage, and what of it."""

    makes: ClassVar[str] = MODEL
    takes: ClassVar[Mapping[str, str]] = {"model": MODEL}

    name: StageName
    gate: Gates | None = None

    @property
    def measured(self) -> list[str]:
        """The tasks on whose test problems the stage measures by itself what it makes."""
        return []

    @property
    @abstractmethod
    def figures(self) -> tuple[str, ...]:
        """The numbers by name that it logs of its steps and of its end: what a gate without a task may ask for."""


class Pretrain(Stage, PretrainingSettings):
    takes = {"tokenizer": MODEL}

    name: StageName = "pretrain"

    @property
    def figures(self) -> tuple[str, ...]:
        return (*_READING, "mtp_loss", "balance_loss", "load_max")

    @field_validator("model")
    @classmethod
    def _network(cls, model: dict[str, Any]) -> dict[str, Any]:
        config = ModelConfig.from_dict(model | {"vocab_size": 512, "max_position_embeddings": 512})
        known = [*(entry.name for entry in fields(config)), *config.to_dict(), "rope_scaling"]
        for name in model:
            if name not in known:
                raise ValueError(f"a network has no `{name}`{did_you_mean(name, known)}")
        return model

    @field_validator("corpus")
    @classmethod
    def _documents(cls, shares: dict[str, float]) -> dict[str, float]:
        for kind, share in shares.items():
            if kind not in corpus.kinds():
                raise ValueError(
                    f"there are no documents `{kind}`{did_you_mean_or_known(kind, corpus.kinds())}"
                )
            if share < 0:
                raise ValueError(f"the share of `{kind}` is negative")
        if not any(shares.values()):
            raise ValueError("all shares are zero: there is nothing to read")
        return shares

    @field_validator("tasks")
    @classmethod
    def _settings_of_tasks(cls, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, options in settings.items():
            for level in corpus.levels(options):
                tasks.get(name, **level)
        return settings


class Sample(Stage, RejectionSamplingSettings):
    makes = DATA

    name: StageName = "sample"

    @property
    def figures(self) -> tuple[str, ...]:
        return ("step", "time", *SUMMED, "accuracy", "length_mean", "tokens_per_second_sampling")


class Finetune(Stage, FinetuningSettings):
    takes = {"model": MODEL, "data": DATA}

    name: StageName = "finetune"

    @property
    def measured(self) -> list[str]:
        return [task.make().name for task in self.evaluation.tasks]

    @property
    def figures(self) -> tuple[str, ...]:
        return (*_READING, *_EPOCHS, "mtp_loss", "balance_loss", "load_max", "learned", "conversations")


class RewardModel(Stage, RewardModelingSettings):
    makes = REWARD_MODEL
    takes = {"model": MODEL, "data": PREFERENCES}

    name: StageName = "reward-model"

    @property
    def figures(self) -> tuple[str, ...]:
        return (*_READING, *_EPOCHS, "accuracy", "low", "high", "margin", "held_out", "prompts_differ")


class Reinforce(Stage, ReinforcementSettings):
    takes = {
        "model": MODEL,
        "preference.helpfulness": REWARD_MODEL,
        "preference.safety": REWARD_MODEL,
    }

    name: StageName = "reinforce"

    @property
    def measured(self) -> list[str]:
        return [self.task.make().name]

    @property
    def figures(self) -> tuple[str, ...]:
        models = [name for name in ("helpfulness", "safety") if getattr(self.preference, name, None)]
        rewards = (f"reward_{part}" for part in (*self.rewards, *models))
        own = ("groups_without_signal", "groups_all_wrong", "refills")
        return (*_policy_figures(self.task), "reward", *rewards, *own)


class Distill(Stage, DistillationSettings):
    takes = {"model": MODEL, "teacher": MODEL}

    name: StageName = "distill"

    @property
    def measured(self) -> list[str]:
        return [self.task.make().name]

    @property
    def figures(self) -> tuple[str, ...]:
        return _policy_figures(self.task)


def _policy_figures(task: TaskSettings) -> tuple[str, ...]:
    return (*_POLICY, "turns") if max_turns(task.make()) > 1 else _POLICY


AnyStage = Pretrain | Sample | Finetune | RewardModel | Reinforce | Distill
KINDS: dict[str, type[AnyStage]] = {
    stage.model_fields["kind"].default: stage
    for stage in (Pretrain, Sample, Finetune, RewardModel, Reinforce, Distill)
}


TRAINERS: dict[str, type[Trainer]] = {
    "pretrain": Pretraining,
    "sample": RejectionSampling,
    "finetune": Finetuning,
    "reward-model": RewardModeling,
    "reinforce": Reinforcement,
    "distill": Distillation,
}


@dataclass(frozen=True)
class Reference:
    """A place in a stage's settings where the name of an earlier stage may stand, and what stands there."""

    path: tuple[str | int, ...]
    name: str
    wanted: str


def references(stage: Mapping[str, Any]) -> list[Reference]:
    """What a stage (its settings as plain data) takes: from earlier stages, or from outside the run."""
    found: list[Reference] = []
    for dotted, wanted in KINDS[stage["kind"]].takes.items():
        path = tuple(dotted.split("."))
        value: Any = stage
        for key in path:
            value = (value or {}).get(key)
        if isinstance(value, str):
            found.append(Reference(path, value, wanted))
        elif isinstance(value, list):
            found += [Reference((*path, place), name, wanted) for place, name in enumerate(value)]
    return found


def makes(kind: str) -> str:
    return KINDS[kind].makes


def one(what: str) -> str:
    """`a model`, but `data`."""
    return what if what in (DATA, PREFERENCES) else f"a {what}"
