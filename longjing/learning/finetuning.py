"""Supervised fine-tuning: a model learns to write what good completions say.

Three stages of the recipe are this loop: the cold start, the fine-tuning on rejection-sampled data, and the
distillation into dense students (DeepSeek-R1, arXiv 2501.12948, sections 2.3.1, 2.3.3 and 2.4; its settings
in the supplement, B.4.2 and B.4.3: two to three epochs, a cosine from 5e-5 down to a tenth of it, batches of
128 examples). What deviates: examples are packed, so a batch is some number of rows, not of examples, and a
model that has modules for further tokens keeps training them, so that their drafts go on being accepted.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Literal, Self

from pydantic import Field, model_validator

from longjing.cluster.runtime import Runtime
from longjing.data.conversations import Example, encode_conversation, placed_conversations
from longjing.errors import UserError
from longjing.files import digest
from longjing.learning.loop import SILENT, ModelTrainer, Step
from longjing.learning.memory import Work
from longjing.learning.packing import collate
from longjing.learning.pretraining import READING_ADVICE, READING_CHARTS, READING_METRICS, ReadingSettings, train_on
from longjing.learning.settings import (
    EngineSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    TaskReference,
)
from longjing.learning.stage import DATA, MODEL, StageKind, facts_of
from longjing.model.config import ModelConfig
from longjing.planning import flops
from longjing.runs import Watcher
from longjing.runs.jsonl import Row
from longjing.runs.metric import Metric

Plan = list[list[list[int]]]  # the examples of each row of each step, by their numbers


class MeasurementSettings(EvaluationSettings):
    """Tasks on whose test split the model is measured before the first step and after the last."""

    tasks: list[TaskReference] = []
    temperature: float = Field(1.0, gt=0)
    max_tokens: int = Field(512, ge=1, description="longest completion")


class FinetuningSettings(ModelSettings, ReadingSettings, OptimizerSettings, EngineSettings):
    """The settings of a fine-tuning stage."""

    kind: Literal["finetune"] = "finetune"
    data: list[str] = Field(min_length=1, description="files of conversations")
    epochs: int = Field(2, ge=1, description="times that every example is learned")
    row_length: int = Field(1024, ge=16, description="tokens of a row, into which examples are packed")
    learning_rate: float = Field(5e-5, gt=0, description="Muon's, if that is the optimiser")
    decay_to: float = Field(0.1, ge=0, le=1, description="share of the rate that its cosine ends at")
    mtp_weight: float = Field(0.1, ge=0, description="of the further tokens' loss, which `lora` leaves out")
    evaluation: MeasurementSettings = Field(default_factory=lambda: MeasurementSettings.model_validate({}))

    @model_validator(mode="after")
    def _frozen(self) -> Self:
        if self.lora and self.balance_speed:
            raise ValueError("with `lora` the routers are frozen: leave out `balance_speed`, or `lora`")
        return self


def plan(lengths: Sequence[int], settings: FinetuningSettings, seed: int) -> Plan:
    """The minibatches: which examples are learned together, from their lengths, the settings and the seed alone.

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
            latest = range(max(0, len(rows) - 64), len(rows))  # to look through all would take the square of them
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


class Finetuning(ModelTrainer):
    """A model, the examples it learns, and the order in which it does."""

    preparing = "reading the conversations"

    def __init__(self, settings: FinetuningSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        self.settings, self.runtime, self.watcher = settings, runtime, watcher
        self.model, self.tokenizer = settings.load(runtime)
        self.model.train()
        conversations, encoded = self._read()
        self.examples = [example for example in encoded if len(example) <= settings.row_length]
        if not self.examples:
            raise UserError(
                f"no example fits into a row of {settings.row_length} tokens; "
                f"raise `row_length` to at least {min(map(len, encoded))}"
            )
        self.facts = {
            "data": [digest(path) for path in settings.data],
            "conversations": conversations,
            "examples": len(self.examples),
            "too_long": len(encoded) - len(self.examples),
        }
        self.plan = plan(list(map(len, self.examples)), settings, runtime.seed)
        self.steps = len(self.plan)
        ends = {int(example.tokens[-1]) for example in self.examples}
        self.model.config = ending_at(self.model.config, ends)
        self.optimizers = settings.optimizers(self.model)

    def work(self) -> Work:
        most = self.settings.rows * self.settings.row_length
        return self._work(self.settings.row_length, most, most)

    def _read(self) -> tuple[int, list[Example]]:
        """How many conversations the files hold, and the examples that they make."""
        control = self.tokenizer.control_tokens
        conversations = [each for path in self.settings.data for each in placed_conversations(path, control)]
        encoded = []
        for origin, conversation in conversations:
            try:
                encoded += encode_conversation(self.tokenizer, conversation)
            except UserError as error:  # the template's: it knows messages, and not whose
                raise UserError(f"{origin}: {error}") from error
        return len(conversations), encoded

    def step(self, step: int) -> Step:
        settings = self.settings
        rows = [[self.examples[number] for number in row] for row in self.plan[step]]
        packed = collate(rows, settings.row_length, self.tokenizer.pad_id).to(self.runtime.device)
        factor = rate_factor(step, self.steps, settings)
        metrics = train_on(self, packed, settings, factor, settings.mtp_weight)
        sizes = [len(example) for row in rows for example in row]
        tokens = sum(sizes)
        # A token's cost is linear in the length of its example: that of the mean token's example gives the sum.
        length, frozen = sum(size * size for size in sizes) / tokens, settings.lora is not None
        return Step(
            metrics
            | {
                "epoch": settings.epochs * (step + 1) / self.steps,
                "loss_mask_share": float(packed.loss_mask.sum()) / tokens,
                "tokens": tokens,
                "flops": tokens * flops.training(self.model.config, length, mtp=not frozen, frozen=frozen),
            }
        )

    def evaluate(self, step: int) -> Iterator[Row]:
        """Rows of measurements on each task's test problems, before the first step and after the last."""
        if step not in (-1, self.steps - 1):
            return
        settings = self.settings
        for task in settings.evaluation.tasks:
            when = "before" if step < 0 else "after"
            self.watcher.status(f"measuring the model on the test problems of {task.name}, {when}")
            generator = settings.generator(self.model, self.tokenizer, self.runtime, self.watcher)
            yield settings.evaluation.measure(
                generator, self.tokenizer, task.make(), self.model, seed=self.runtime.seed,
                temperature=settings.evaluation.temperature, max_tokens=settings.evaluation.max_tokens,
                instruction=settings.instruction,
            )  # fmt: skip


def ending_at(config: ModelConfig, ends: set[int]) -> ModelConfig:
    """The config of a model that stops at these tokens too: a base may know another end than its template."""
    current = config.eos_token_id
    old = () if current is None else (current,) if isinstance(current, int) else current
    new = (*old, *sorted(ends - {*old}))
    return config if new == old else replace(config, eos_token_id=new[0] if len(new) == 1 else new)


STAGE = StageKind(
    FinetuningSettings, Finetuning,
    (*READING_METRICS, *map(Metric, ("epoch", "examples", "too_long", "loss_mask_share", "conversations"))),
    READING_CHARTS, READING_ADVICE, takes={"model": MODEL, "data": DATA},
    measured=lambda settings: [task.make().name for task in settings.evaluation.tasks],
    facts=facts_of("conversations", "examples", "too_long"),
)  # fmt: skip
