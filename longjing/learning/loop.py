"""The one training loop: `run_stage` brings any stage to its end, from wherever it stands.

What all stages have in common is here: load the last state, reserve the disk, restore, take the steps, add up what
they cost, log, measure, save, export, finish; in an order in which a kill at any moment costs nothing. What is a
stage's own is a `Trainer`, one class for each kind of stage, in the file that bears the kind's name.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.memory import MemoryPlan, Work, choose, memory_errors
from longjing.learning.optimizers import Optimizers
from longjing.learning.reference_policy import ReferencePolicy
from longjing.learning.state import Saving, disk_bytes, gather, restore
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import has_adapter
from longjing.model.store.adapter import save_adapter
from longjing.model.store.checkpoint import save_model
from longjing.model.threads import is_small
from longjing.runs import StageDirectory, Watcher
from longjing.runs.jsonl import Row
from longjing.runs.models import base_name
from longjing.text.tokenizer import Tokenizer

SILENT = Watcher()
Saved = tuple[dict[str, Tensor], dict[str, Any]]


class Step(NamedTuple):
    """What one step came to: its metrics, and what it has for the logs of rollouts and of data."""

    metrics: dict[str, Any]
    rollouts: Sequence[Row] = ()
    data: Sequence[Row] = ()


class Trainer(ABC):
    """What a kind of stage does in a step, and what `run_stage` needs to know for all the rest.

    A step is a pure function of the seed, its number, and of what `tensors` and `restore` carry over a kill.
    """

    preparing: ClassVar[str] = ""  # what it is busy with while it is made, in a few words
    totals: ClassVar[Sequence[str]] = ("tokens", "flops")  # metrics that are added up over the steps
    logs_totals: ClassVar[bool] = True  # whether the log has the sums so far, or what each step added
    exports: ClassVar[bool] = True  # whether it makes a model

    runtime: Runtime
    watcher: Watcher
    steps: int
    save_every: int | str = 1  # see `Saving`
    memory: MemoryPlan | None = None  # how it fits into memory
    # What there is to say of what was read; `data` mustn't change while the stage goes on.
    facts: Mapping[str, Any] = {}

    @abstractmethod
    def __init__(self, settings: Any, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        """Read what the stage begins with; `watcher` looks on. Raises UserError for what can't be used."""

    @abstractmethod
    def step(self, step: int) -> Step:
        """Take the step number `step`. Raises UserError if learning diverges."""

    def adopt(self, memory: MemoryPlan) -> None:
        """Go by this plan."""
        self.memory = memory

    def evaluate(self, step: int) -> Iterator[Row]:
        """The measurements that are due after this step, for the log; step -1 is before the first."""
        yield from ()

    def disk_bytes(self) -> int:
        """What the stage may need on the disk."""
        return 0

    def tensors(self) -> dict[str, Tensor]:
        """All that must survive a kill, not copied."""
        return {}

    def restore(self, tensors: dict[str, Tensor], totals: Mapping[str, Any]) -> None:
        """Go on from a saved state: the inverse of `tensors`, and the totals so far."""
        return

    def export(self, directory: Path) -> None:
        """Write the finished model into an empty directory."""
        return

    def summary(self, totals: Mapping[str, Any], evaluations: Sequence[Row]) -> dict[str, Any]:
        """What the result says beside the totals and the facts. Raises UserError if the stage came to nothing."""
        return {}


class ModelTrainer(Trainer):
    """A trainer of a model: its state are the weights that learn, the optimisers' state and, if there is one, the
    reference. It makes a model, or of a network with an adapter that adapter."""

    settings: Any
    model: Decoder
    tokenizer: Tokenizer
    optimizers: Optimizers
    reference: ReferencePolicy | None = None  # from which the objective measures the divergence

    @property
    def save_every(self) -> int | str:  # type: ignore[override]
        """As the settings say; if they don't, once a minute, and of a small model as often as its kind is."""
        given: int | str | None = self.settings.save_every
        return given or (self.settings.save_steps if is_small(self.model) else "60s")

    @cached_property
    def memory(self) -> MemoryPlan:  # type: ignore[override]
        """Raises UserError if the stage doesn't fit into the memory that its settings allow."""
        settings = self.settings
        return choose(
            self.work(), settings.memory, settings.micro_tokens, settings.chunk_tokens,
            settings.activation_checkpointing,
        )  # fmt: skip

    @abstractmethod
    def work(self) -> Work:
        """What an update works on."""

    def _work(self, longest: int, most: int, ordinary: int, others: int = 0, scores: bool = False) -> Work:
        """The same, of this model."""
        parameters = list(self.model.parameters())
        return Work(
            config=self.model.config,
            weights=sum(parameter.nbytes for parameter in parameters),
            numbers=sum(parameter.numel() for parameter in parameters),
            learned=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            longest=longest, most=most, ordinary=ordinary, half=self.runtime.dtype == torch.bfloat16,
            others=others, scores=scores,
        )  # fmt: skip

    def adopt(self, memory: MemoryPlan) -> None:
        self.memory = memory
        self.model.recomputes = memory.recomputes
        if memory.asked["memory"] is not None or not is_small(self.model):
            self.watcher.status(f"memory: {memory}")

    def disk_bytes(self) -> int:
        return disk_bytes(self.model, self._reference)

    def tensors(self) -> dict[str, Tensor]:
        return gather(self.model, self.optimizers, self._reference)

    def restore(self, tensors: dict[str, Tensor], totals: Mapping[str, Any]) -> None:
        restore(tensors, self.model, self.optimizers, self._reference)

    @property
    def _reference(self) -> dict[str, Tensor] | None:
        return None if self.reference is None else self.reference.weights

    def export(self, directory: Path) -> None:
        if has_adapter(self.model):
            save_adapter(self.model, directory, base_name(self.settings.model))
        else:
            save_model(self.model, directory)
        self.tokenizer.save(directory)


def run_stage(
    make: Callable[[Any, Runtime, Watcher], Trainer], settings: Any, stage: StageDirectory, runtime: Runtime
) -> None:
    """Run the stage to its end, from wherever it stands. `make`: the class of its trainer.

    Raises UserError for what the trainer refuses, if the disk is too small or refuses, and for data that changed since
    the stage began.
    """
    saved = stage.load_state()
    if preparing := getattr(make, "preparing", ""):
        stage.watcher.status(preparing)
    with memory_errors():
        _run(make(settings, runtime, stage.watcher), stage, saved, settings)


def _run(trainer: Trainer, stage: StageDirectory, saved: Saved | None, settings: Any) -> None:
    stage.run.reserve(trainer.disk_bytes() - stage.state_bytes)
    if (memory := trainer.memory) is not None:
        noted = stage.memory if saved is not None else None
        if noted is not None and noted["asked"] == memory.asked:
            memory = MemoryPlan(**noted)
        stage.memory = asdict(memory)
        trainer.adopt(memory)
    totals: dict[str, Any] = {"step": -1, "time": 0.0, **dict.fromkeys(trainer.totals, 0), **trainer.facts}
    if saved is None:
        _evaluate(trainer, stage, -1)
    else:
        tensors, before = saved
        if before.get("data") != totals.get("data"):
            raise UserError(
                f"the data of the stage {stage.name} changed since it began ({', '.join(settings.data)}); put the old "
                f"files back, or delete {stage.path} to begin it again"
            )
        totals |= before
        trainer.restore(tensors, totals)
    saving = Saving(trainer.save_every)
    for step in range(totals["step"] + 1, trainer.steps):
        began = time.perf_counter()
        metrics, rollouts, data = trainer.step(step)
        seconds = time.perf_counter() - began
        totals |= {"step": step, "time": totals["time"] + seconds}
        totals |= {name: totals[name] + metrics[name] for name in trainer.totals}
        row = {"step": step, "steps": trainer.steps, **metrics, "time": totals["time"]}
        if trainer.logs_totals:
            row |= {name: totals[name] for name in trainer.totals}
        if "tokens" in metrics:
            row["tokens_per_second"] = metrics["tokens"] / seconds
        for rollout in rollouts:
            stage.rollouts.append({"step": step, **rollout})
        for one in data:
            stage.data.append({"step": step, **one})
        stage.metrics.append(row)
        _evaluate(trainer, stage, step)  # before the state is saved: what was measured isn't measured again
        if saving.due(step) or step + 1 == trainer.steps:
            stage.save_state(step, trainer.tensors(), totals)
    summary = trainer.summary(totals, stage.evaluations.rows())
    if trainer.exports:
        with stage.model_directory() as directory:
            trainer.export(directory)
    stage.finish({**totals, "steps": trainer.steps, **summary})
    stage.drop_state()


def _evaluate(trainer: Trainer, stage: StageDirectory, step: int) -> None:
    for row in trainer.evaluate(step):
        stage.evaluations.append({"step": step, **row})
