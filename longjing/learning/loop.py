"""The one training loop: `run_stage` brings any stage to its end, from wherever it stands.

What all stages have in common is here: load the last state, reserve the disk, restore, take the steps, add up what
they cost, log, measure, save, export, finish; in an order in which a kill at any moment costs nothing. What is a
stage's own is a `Trainer`, one class for each kind of stage, in the file that bears the kind's name.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.optimizers import Optimizers
from longjing.learning.reference_policy import ReferencePolicy
from longjing.learning.state import disk_bytes, gather, restore
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import has_adapter
from longjing.model.store.adapter import save_adapter
from longjing.model.store.checkpoint import save_model
from longjing.runs import StageDirectory, Watcher
from longjing.runs.jsonl import Row
from longjing.runs.models import base_name
from longjing.text.tokenizer import Tokenizer

SILENT = Watcher()


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
    save_every: int = 1
    # What there is to say of what was read; `data` mustn't change while the stage goes on.
    facts: Mapping[str, Any] = {}

    @abstractmethod
    def __init__(self, settings: Any, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        """Read what the stage begins with; `watcher` looks on. Raises UserError for what can't be used."""

    @abstractmethod
    def step(self, step: int) -> Step:
        """Take the step number `step`. Raises UserError if learning diverges."""

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
    trainer = make(settings, runtime, stage.watcher)
    stage.run.reserve(trainer.disk_bytes())
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
        if step + 1 == trainer.steps or (step + 1) % trainer.save_every == 0:
            stage.save_state(step, trainer.tensors(), totals)
    summary = trainer.summary(totals, stage.evaluations.rows())
    if trainer.exports:
        with stage.model_directory() as directory:
            trainer.export(directory)
    stage.finish({**totals, "steps": trainer.steps, **summary})


def _evaluate(trainer: Trainer, stage: StageDirectory, step: int) -> None:
    for row in trainer.evaluate(step):
        stage.evaluations.append({"step": step, **row})
