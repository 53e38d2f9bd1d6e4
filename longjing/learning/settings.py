"""The settings that several kinds of stages share: of a task, the optimiser, the engine, and measurements."""

from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.evaluation import evaluate
from longjing.generation.factory import make_generator
from longjing.generation.generator import Generator
from longjing.learning.memory import parse_size
from longjing.learning.optimizers import Optimizers, adamw, muon
from longjing.learning.state import check_interval
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import LoRAConfig, add_lora, describe, has_adapter, has_shape, merge_lora
from longjing.planning import flops
from longjing.problems import Task
from longjing.runs import Watcher, models
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


def _size(memory: str | None) -> str | None:
    if memory is not None:
        parse_size(memory)
    return memory


class UpdateSettings(Settings):
    """What every stage that updates weights has."""

    save_steps: ClassVar[int] = 20  # between the states of a small model

    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    save_every: Annotated[
        int | str | None,
        Field(description="steps, or a time like `60s`; not given: a minute, of a small model some steps"),
        AfterValidator(check_interval),
    ] = None
    memory: Annotated[
        str | None,
        Field(description="what it may take at most, like `20GB`; the next three are chosen so that it does"),
        AfterValidator(_size),
    ] = None
    micro_tokens: int | None = Field(None, ge=1, description="tokens of a microbatch, padding included")
    chunk_tokens: int | None = Field(None, ge=1, description="tokens whose logits are in memory at once")
    activation_checkpointing: bool | None = Field(
        None, description="whether layers are computed again in the backward pass, not kept; only if `memory` asks"
    )


def _no_dropout(share: float) -> float:
    if share:
        raise ValueError("with dropout the policy that learns isn't the one that sampled; leave it out, or say 0")
    return share


class LoRASettings(Settings):
    """An adapter of low rank that learns in place of the network (arXiv 2106.09685); `layers/lora.py`."""

    rank: int = Field(16, ge=1, description="of each weight's two factors")
    alpha: float | None = Field(None, gt=0, description="the adapter's weight is alpha / rank; default twice the rank")
    dropout: Annotated[float, AfterValidator(_no_dropout)] = Field(0.0, description="none; it is read to be refused")
    targets: list[str] = Field(
        [], description="projections (`q_proj`, ...), or `experts`; none: all, of a mixture those of attention"
    )

    def config(self) -> LoRAConfig:
        """The adapter's shape."""
        return LoRAConfig(self.rank, 2.0 * self.rank if self.alpha is None else self.alpha, tuple(self.targets))


class ModelSettings(Settings):
    """What every stage has that trains a model which is there: all of it, or an adapter."""

    model: str = Field("base", description="the model to start from: a shipped name, a directory, or a run")
    lora: LoRASettings | None = Field(None, description="train an adapter of low rank, and not the model itself")

    def load(self, runtime: Runtime) -> tuple[Decoder, Tokenizer]:
        """The model that is to learn, in evaluation mode, and its tokenizer.

        With `lora` the network is frozen, in the format that is computed in, and its adapter learns: that which it has,
        if that is of the same shape. Without, an adapter that it has is merged first. Raises UserError.
        """
        if self.lora is None:
            model, tokenizer = models.load(self.model, runtime.device)
            if has_adapter(model):
                merge_lora(model)
            return model, tokenizer
        model, tokenizer = models.load(self.model, runtime.device, runtime.dtype)
        config = self.lora.config()
        if not has_adapter(model):
            add_lora(model, config, runtime.seed)
        elif not has_shape(model, config):
            raise UserError(
                f"{self.model} has an adapter of another shape than `lora` asks for ({describe(model)}); ask for that "
                "one, or merge it first (`longjing export --merge RUN DIRECTORY`) and begin with what that writes"
            )
        return model, tokenizer


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
    instruction: str | None = Field(
        None, description="said behind each problem; by default the form that is judged, to models not trained here"
    )

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
