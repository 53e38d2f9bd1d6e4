"""Supervised fine-tuning: a model learns to write what good completions say.

Three stages of the recipe are this loop: the cold start, the fine-tuning on rejection-sampled data, and the
distillation into dense students (DeepSeek-R1, arXiv 2501.12948, sections 2.3.1, 2.3.3 and 2.4; its settings
in the supplement, B.4.2 and B.4.3: two to three epochs, a cosine from 5e-5 down to a tenth of it, batches of
128 examples). What deviates: examples are packed, so a batch is some number of rows, not of examples, and a
model that has modules for further tokens keeps training them, so that their drafts go on being accepted.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from longjing.errors import UserError
from longjing.evaluation import evaluate
from longjing.files import digest
from longjing.generation.factory import make_generator
from longjing.generation.generator import Generator
from longjing.learning.conversations import encode_conversation, placed_conversations
from longjing.learning.optimizers import ADAMW_RATE, AdamwRate, adamw, clip_gradients, muon
from longjing.learning.packing import collate
from longjing.learning.policy import TaskSettings
from longjing.learning.pretraining import losses
from longjing.learning.state import disk_bytes, gather, restore
from longjing.model.config import ModelConfig
from longjing.model.store.checkpoint import load_model, resolve, save_model
from longjing.planning import flops
from longjing.runs import StageDirectory
from longjing.text.tokenizer import Tokenizer

_OPEN = 64  # rows that are looked through for room

Plan = list[list[list[int]]]  # the examples of each row of each step, by their numbers


class MeasurementSettings(BaseModel):
    """Tasks on whose test split the model is measured before the first step and after the last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: list[TaskSettings] = []
    problems: int = Field(200, ge=1)
    samples: int = Field(4, ge=1)
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(512, ge=1, description="longest completion")

    @field_validator("tasks")
    @classmethod
    def _possible(cls, tasks: list[TaskSettings]) -> list[TaskSettings]:
        for task in tasks:
            task.make()
        return tasks


class FinetuningSettings(BaseModel):
    """The settings of a fine-tuning stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["finetune"] = "finetune"
    model: str = Field("base", description="the model to start from: a shipped name, a directory, or a run")
    data: list[str] = Field(min_length=1, description="files of conversations")
    epochs: int = Field(2, ge=1, description="times that every example is learned")
    rows: int = Field(16, ge=1, description="rows of a batch")
    row_length: int = Field(1024, ge=16, description="tokens of a row, into which examples are packed")
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(5e-5, gt=0, description="Muon's, if that is the optimiser")
    adamw_learning_rate: AdamwRate = ADAMW_RATE
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    decay_to: float = Field(0.1, ge=0, le=1, description="share of the rate that its cosine ends at")
    max_grad_norm: float = Field(1.0, gt=0)
    mtp_weight: float = Field(0.1, ge=0, description="of the further tokens' loss")
    balance_speed: float = Field(0.0, ge=0, description="gamma: the step of the routers' biases")
    balance_weight: float = Field(1e-4, ge=0, description="alpha, of the sequence-wise balance loss")
    evaluation: MeasurementSettings = Field(default_factory=lambda: MeasurementSettings.model_validate({}))
    max_batch: int = Field(256, ge=1, description="completions that the engine works on at once")
    cache_megabytes: int = Field(1024, ge=1, description="memory of the engine's cache")
    save_every: int = Field(20, ge=1)


def plan(lengths: Sequence[int], settings: FinetuningSettings, seed: int) -> Plan:
    """Which examples are learned together, from their lengths, the settings and the seed alone.

    Every epoch has all examples once, in an order of its own. Each goes into the first of the latest rows
    with room for it, or begins another; rows are dealt out to as few steps as hold them, as evenly as can be.
    """
    steps: Plan = []
    for epoch in range(settings.epochs):
        order = list(range(len(lengths)))
        Random(f"finetuning {seed} {epoch}").shuffle(order)
        rows: list[list[int]] = []
        free: list[int] = []
        for example in order:
            latest = range(max(0, len(rows) - _OPEN), len(rows))
            row = next((row for row in latest if free[row] >= lengths[example]), len(rows))
            if row == len(rows):
                rows.append([])
                free.append(settings.row_length)
            rows[row].append(example)
            free[row] -= lengths[example]
        count = math.ceil(len(rows) / settings.rows)
        cuts = [len(rows) * step // count for step in range(count + 1)]
        steps += [rows[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    return steps


def rate_factor(step: int, steps: int, settings: FinetuningSettings) -> float:
    """The learning rate's factor: up over the warm-up, then along a cosine, to `decay_to` in the last step."""
    rise = (step + 1) / (settings.warmup_steps + 1)
    cosine = (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2
    return min(rise, settings.decay_to + (1 - settings.decay_to) * cosine)


class Finetuning:
    """A model, the examples it learns, and the order in which it does."""

    def __init__(
        self, settings: FinetuningSettings, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.settings, self.seed, self.device, self.dtype = settings, seed, device, dtype
        path = resolve(settings.model)
        self.tokenizer, self.model = Tokenizer.from_directory(path), load_model(path, device).train()
        control = self.tokenizer.control_tokens
        conversations = [one for path in settings.data for one in placed_conversations(path, control)]
        encoded = []
        for origin, one in conversations:
            try:
                encoded += encode_conversation(self.tokenizer, one)
            except UserError as error:  # the template's: it knows messages, and not whose
                raise UserError(f"{origin}: {error}") from error
        self.examples = [example for example in encoded if len(example) <= settings.row_length]
        if not self.examples:
            raise UserError(
                f"no example fits into a row of {settings.row_length} tokens; "
                f"raise `row_length` to at least {min(map(len, encoded))}"
            )
        self.facts = {
            "conversations": len(conversations),
            "examples": len(self.examples),
            "too_long": len(encoded) - len(self.examples),
        }
        self.lengths = [len(example) for example in self.examples]
        self.steps = plan(self.lengths, settings, seed)
        ends = {int(example.tokens[-1]) for example in self.examples}
        self.model.config = ending_at(self.model.config, ends)
        if settings.optimizer == "muon":
            self.optimizers = muon(
                self.model, settings.learning_rate, settings.adamw_learning_rate, settings.weight_decay
            )
        else:
            self.optimizers = adamw(self.model, settings.learning_rate, settings.weight_decay)

    def step(self, step: int) -> dict[str, Any]:
        """One step: its metrics."""
        settings, model, rows = self.settings, self.model, self.steps[step]
        packed = collate(
            [[self.examples[number] for number in row] for row in rows],
            settings.row_length,
            self.tokenizer.pad_id,
        ).to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = losses(model, packed)
        torch.autograd.backward(
            loss.next_token + settings.mtp_weight * loss.further + settings.balance_weight * loss.balance
        )
        grad_norm = clip_gradients(model, settings.max_grad_norm)
        factor = rate_factor(step, len(self.steps), settings)
        self.optimizers.step(factor)
        load = max((float(router.load.max() / router.load.mean()) for router in model.routers()), default=1.0)
        model.rebalance(settings.balance_speed)
        sizes = [self.lengths[number] for row in rows for number in row]
        tokens = sum(sizes)
        # A token's cost is linear in the length of its example: that of the mean token's example gives the sum.
        length = sum(size * size for size in sizes) / tokens
        return {
            "step": step,
            "steps": len(self.steps),
            "epoch": settings.epochs * (step + 1) / len(self.steps),
            "loss": float(loss.next_token.detach()),
            "mtp_loss": float(loss.further.detach()),
            "balance_loss": float(loss.balance.detach()),
            "grad_norm": grad_norm,
            "learning_rate": settings.learning_rate * factor,
            "learned": float(packed.loss_mask.sum()) / tokens,
            "load_max": load,
            "tokens": tokens,
            "flops": tokens * flops.training(model.config, length, mtp=True),
        }

    def measure(self, task: TaskSettings, watcher: Callable[[int, int, int], None]) -> dict[str, Any]:
        """How the model does on the task's test problems, as a line for the log. `watcher`: as in `Generator`."""
        settings = self.settings
        generator: Generator = make_generator(
            self.model, self.tokenizer, cache_bytes=settings.cache_megabytes * 2**20,
            max_batch=settings.max_batch, dtype=self.dtype,
        )  # fmt: skip
        generator.watcher = watcher
        evaluation = evaluate(
            generator, self.tokenizer, task.make(), problems=settings.evaluation.problems,
            samples=settings.evaluation.samples, seed=self.seed, temperature=settings.evaluation.temperature,
            max_tokens=settings.evaluation.max_tokens, flops=partial(flops.generation, self.model.config),
        )  # fmt: skip
        return {**evaluation.summary(), "examples": evaluation.examples(24)}


def finetune(
    settings: FinetuningSettings,
    stage: StageDirectory,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Run the stage to its end, from wherever it stands.

    `dtype` bfloat16 computes in autocast; weights and optimiser state are float32 either way. Raises
    UserError for data that can't be read, that no row holds or that changed since the stage began; if the
    disk is too small, or learning diverges.
    """
    saved = stage.load_state()
    stage.status("reading the conversations")
    learner = Finetuning(settings, seed, device, dtype)
    stage.run.reserve(disk_bytes(learner.model))
    hashes = [digest(path) for path in settings.data]
    facts: dict[str, Any] = {"step": -1, "time": 0.0, "tokens": 0, "flops": 0.0, "data": hashes}
    if saved is None:
        _measure(learner, stage, -1, "before")
    else:
        tensors, facts = saved
        if facts["data"] != hashes:
            raise UserError(
                f"the data of the stage {stage.name} changed since it began ({', '.join(settings.data)}); "
                f"put the old files back, or delete {stage.path} to begin it again"
            )
        restore(tensors, learner.model, learner.optimizers)
    steps = len(learner.steps)
    for step in range(facts["step"] + 1, steps):
        began = time.perf_counter()
        metrics = learner.step(step)
        seconds = time.perf_counter() - began
        facts["step"] = step
        facts["time"] += seconds
        speed = metrics["tokens"] / seconds
        for name in ("tokens", "flops"):
            facts[name] += metrics[name]
        totals = {name: facts[name] for name in ("time", "tokens", "flops")}
        stage.metrics.append(metrics | totals | {"tokens_per_second": speed})
        last = step + 1 == steps
        if last:  # before the state is saved: what was measured isn't measured again
            _measure(learner, stage, step, "after")
        if last or (step + 1) % settings.save_every == 0:
            stage.save_state(step, gather(learner.model, learner.optimizers), facts)
    with stage.model_directory() as directory:
        save_model(learner.model, directory)
        learner.tokenizer.save(directory)
    stage.finish({**facts, **learner.facts, "steps": steps})


def _measure(learner: Finetuning, stage: StageDirectory, step: int, when: str) -> None:
    for task in learner.settings.evaluation.tasks:
        stage.status(f"measuring the model on the test problems of {task.name}, {when}")
        stage.evaluations.append({"step": step, **learner.measure(task, stage.sampled)})


def ending_at(config: ModelConfig, ends: set[int]) -> ModelConfig:
    """The config of a model that stops at these tokens too: a base may know another end than its template."""
    known = config.eos_token_id
    old = () if known is None else (known,) if isinstance(known, int) else known
    new = (*old, *sorted(ends - {*old}))
    return config if new == old else replace(config, eos_token_id=new[0] if len(new) == 1 else new)
