"""The settings that several kinds of stages share: of a task, the optimiser, the engine, and measurements."""

from functools import cached_property, partial
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.evaluation import evaluate
from longjing.generation.factory import make_generator
from longjing.generation.generator import Generator
from longjing.learning.optimizers import Optimizers, adamw, muon
from longjing.model.decoder import Decoder
from longjing.planning import flops
from longjing.problems import Task
from longjing.runs import Watcher
from longjing.runs.jsonl import Row
from longjing.text.tokenizer import Tokenizer

ADAMW_RATE = 1e-4


class Settings(BaseModel):
    """Settings that refuse a name they don't know, and never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskReference(BaseModel):
    """A task by name; everything else is a setting of the task itself. A name alone may stand for it.

    Of a task in a file, a part of a mixture too, its SHA-256 is noted, so that nobody goes on with another.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        data = {"name": data} if isinstance(data, str) else data
        return tasks.with_digest(data) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _exists(self) -> Self:
        self.make()
        return self

    def make(self) -> Task:
        """The task, always the same one. Raises UserError for what it can't honour, and once its file has changed."""
        tasks.refuse_changed(self.model_dump())
        return self.made

    @cached_property
    def made(self) -> Task:
        """The task as it was when it was first asked for."""
        return tasks.get(**self.model_dump())


class UpdateSettings(Settings):
    """What every stage that updates weights has."""

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    save_every: int = Field(20, ge=1)


def _beside_muon(rate: float, info: ValidationInfo) -> float:
    if info.data.get("optimizer") == "adamw" and rate != ADAMW_RATE:
        raise ValueError(
            "`adamw_learning_rate` is for what Muon leaves; with `optimizer: adamw` the rate is `learning_rate`. "
            f"Leave it out ({ADAMW_RATE:g}), or choose `optimizer: muon`"
        )
    return rate


class OptimizerSettings(UpdateSettings):
    """An update with a choice of optimisers."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    adamw_learning_rate: Annotated[
        float, Field(gt=0, description="beside Muon, for what isn't a hidden matrix"), AfterValidator(_beside_muon)
    ] = ADAMW_RATE

    def optimizers(self, model: Decoder) -> Optimizers:
        """The optimisers of all the model's parameters."""
        if self.optimizer == "muon":
            return muon(model, self.learning_rate, self.adamw_learning_rate, self.weight_decay)
        return adamw(model, self.learning_rate, self.weight_decay)


class EngineSettings(Settings):
    """What every stage that samples has."""

    max_batch: int = Field(256, ge=1, description="completions that the engine works on at once")
    cache_megabytes: int = Field(1024, ge=1, description="memory of the engine's cache")

    def generator(
        self, model: Decoder, tokenizer: Tokenizer, runtime: Runtime, watcher: Watcher, training: bool = False
    ) -> Generator:
        """What samples from the model, and tells the watcher how far it is."""
        generator: Generator = make_generator(
            model, tokenizer, training=training, cache_bytes=self.cache_megabytes * 2**20,
            max_batch=self.max_batch, dtype=runtime.dtype,
        )  # fmt: skip
        generator.watcher = watcher.sampled
        return generator


class EvaluationSettings(Settings):
    """How much a stage measures at a time."""

    problems: int = Field(200, ge=1)
    samples: int = Field(4, ge=1)

    def measure(self, generator: Generator, tokenizer: Tokenizer, task: Task, model: Decoder, **sampling: Any) -> Row:
        """A measurement of the model as a line for the log; `sampling`: as in `evaluate`."""
        evaluation = evaluate(
            generator, tokenizer, task, problems=self.problems, samples=self.samples,
            flops=partial(flops.generation, model.config), **sampling,
        )  # fmt: skip
        return {**evaluation.summary(), "examples": evaluation.examples(24)}
