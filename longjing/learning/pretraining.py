"""Pretraining: next-token prediction, and a little beyond, on the generated corpus.

What deviates from DeepSeek-V3 (section 4.2): Muon instead of AdamW for the hidden matrices, a trapezoidal
learning rate, and batches that are a pure function of (seed, step), so that the data cursor is the step.
"""

from collections.abc import Iterator
from dataclasses import fields
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator, model_validator

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.advice import WINDOW, gradient_spikes, loss_rises, not_finite, threshold
from longjing.learning.loop import SILENT, ModelTrainer, Step
from longjing.learning.memory import Work
from longjing.learning.optimizers import clip_gradients, muon
from longjing.learning.packing import Packed, pack
from longjing.learning.settings import UpdateSettings
from longjing.learning.stage import MODEL, StageKind
from longjing.learning.text_losses import Counts, losses
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.planning import flops
from longjing.runs import Watcher
from longjing.runs.metric import ChartSpec, Metric, Series
from longjing.runs.resolve import resolve
from longjing.text.tokenizer import Tokenizer
from longjing.toys import corpus
from longjing.toys.toy import Document
from longjing.validation import did_you_mean, did_you_mean_or_known


class ReadingSettings(UpdateSettings):
    """What every stage has that learns to predict the next tokens of texts."""

    rows: int = Field(16, ge=1, description="rows of a batch")
    balance_speed: float = Field(0.0, ge=0, description="gamma: the step of the routers' biases")
    balance_weight: float = Field(1e-4, ge=0, description="alpha, of the sequence-wise balance loss")


class PretrainingSettings(ReadingSettings):
    """The settings of a pretraining stage."""

    save_steps: ClassVar[int] = 50
    kind: Literal["pretrain"] = "pretrain"
    model: dict[str, Any] = Field(description="the network's config.json; vocab_size is the tokenizer's")
    vocabulary: int = Field(1024, ge=300, description="tokens of the tokenizer, which is trained first")
    tokenizer: str | None = Field(None, description="a model whose tokenizer to take; if not given, one is trained")
    tokenizer_documents: int = Field(20_000, ge=100, description="documents that the tokenizer is trained on")
    corpus: dict[str, float] = Field(description="how often each kind of document is met")
    tasks: dict[str, dict[str, Any]] = Field(
        {}, description="settings of the tasks, by name; `difficulty` may be a list"
    )
    follow_ups: float = Field(0.0, ge=0, le=1, description="share of documents that go on with a conversation")
    unthinking: float = Field(0.0, ge=0, le=1, description="share of brief answers given without thinking")
    steps: int = Field(ge=1)
    row_length: int = Field(512, ge=16, description="tokens of a row, into which documents are packed")
    learning_rate: float = Field(0.02, gt=0, description="Muon's, for the hidden matrices")
    adamw_learning_rate: float = Field(0.003, gt=0, description="for embeddings, head, routers and norms")
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(50, ge=0)
    decay_share: float = Field(0.4, ge=0, le=1, description="share of the steps in which the rate falls to zero")
    mtp_weight: float = Field(0.3, ge=0, description="of the further tokens' loss, until the rate decays")
    mtp_weight_late: float = Field(0.1, ge=0, description="and from then on")
    balance_speed: float = Field(0.001, ge=0, description="gamma: the step of the routers' biases")

    @model_validator(mode="before")
    @classmethod
    def _no_adapter(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("lora") is not None:
            raise ValueError(
                "`lora` adapts a model that has learned already, and pretraining begins with random weights: give it "
                "to a later stage (finetune, reinforce, distill, reward-model)"
            )
        return data

    @field_validator("model")
    @classmethod
    def _network(cls, model: dict[str, Any]) -> dict[str, Any]:
        config = ModelConfig.from_dict(model | {"vocab_size": 512, "max_position_embeddings": 512})
        names = [*(entry.name for entry in fields(config)), *config.to_dict(), "rope_scaling"]
        for name in model:
            if name not in names:
                raise ValueError(f"a network has no `{name}`{did_you_mean(name, names)}")
        return model

    @field_validator("corpus")
    @classmethod
    def _documents(cls, shares: dict[str, float]) -> dict[str, float]:
        for kind, share in shares.items():
            if kind not in corpus.kinds():
                raise ValueError(f"there are no documents `{kind}`{did_you_mean_or_known(kind, corpus.kinds())}")
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


def rate_factor(step: int, settings: PretrainingSettings) -> float:
    """The learning rate's factor: up over the warm-up, level, then down to zero over the last share."""
    rise = (step + 1) / (settings.warmup_steps + 1)
    fall = (settings.steps - step) / max(1, settings.steps * settings.decay_share)
    return min(rise, fall, 1.0)


def batch(settings: PretrainingSettings, tokenizer: Tokenizer, seed: int, step: int) -> Packed:
    """The batch of a step, from the seed and the step alone."""
    documents = _documents(settings, seed * 1_000_003 + step)
    encoded = (corpus.encode(document, tokenizer) for document in documents)
    return pack(encoded, settings.rows, settings.row_length, tokenizer.pad_id)


def _documents(settings: PretrainingSettings, seed: int) -> Iterator[Document]:
    return corpus.documents(seed, settings.corpus, settings.tasks, settings.follow_ups, settings.unthinking)


class Pretraining(ModelTrainer):
    """A new network, which reads what the corpus yields. Its tokenizer is another model's, or is trained first."""

    preparing = "preparing the tokenizer"

    def __init__(self, settings: PretrainingSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        self.settings, self.runtime, self.watcher = settings, runtime, watcher
        self.steps = settings.steps
        self.tokenizer = tokenizer = _tokenizer(settings, runtime.seed)
        config = ModelConfig.from_dict(
            settings.model
            | {
                "vocab_size": tokenizer.vocab_size,
                "bos_token_id": tokenizer.bos_id,
                "eos_token_id": tokenizer.eos_id,
                "pad_token_id": tokenizer.pad_id,
                "max_position_embeddings": 4 * settings.row_length,
            }
        )
        self.model = Decoder(config).initialise(runtime.seed).to(runtime.device).train()
        self.optimizers = muon(self.model, settings.learning_rate, settings.adamw_learning_rate, settings.weight_decay)

    def work(self) -> Work:
        most = self.settings.rows * self.settings.row_length
        return self._work(self.settings.row_length, most, most)

    def step(self, step: int) -> Step:
        settings = self.settings
        packed = batch(settings, self.tokenizer, self.runtime.seed, step).to(self.runtime.device)
        if not packed.loss_mask.any():
            raise UserError(f"no document fits into a row of {settings.row_length} tokens; raise `row_length`")
        decaying = step >= settings.steps * (1 - settings.decay_share)
        mtp_weight = settings.mtp_weight_late if decaying else settings.mtp_weight
        metrics = train_on(self, packed, settings, rate_factor(step, settings), mtp_weight)
        tokens = int((packed.segments > 0).sum())
        cost = tokens * flops.training(self.model.config, settings.row_length / 4, mtp=True)
        return Step(metrics | {"tokens": tokens, "flops": cost})


def train_on(
    trainer: ModelTrainer, packed: Packed, settings: ReadingSettings, factor: float, mtp_weight: float
) -> dict[str, Any]:
    """One update on packed rows, in microbatches of whole rows; its metrics. `factor`: of the learning rate."""
    model, memory = trainer.model, trainer.memory
    counts = Counts.of(packed, len(model.mtp))
    found = []
    for part in packed.split(max(1, memory.micro_tokens // packed.tokens.shape[1])):
        with trainer.runtime.autocast():
            loss = losses(model, part, counts, memory.chunk_tokens)
        torch.autograd.backward(loss.next_token + mtp_weight * loss.further + settings.balance_weight * loss.balance)
        found.append(torch.stack((loss.next_token, loss.further, loss.balance)).detach())
    next_token, further, balance = torch.stack(found).sum(dim=0).tolist()
    grad_norm = clip_gradients(model, settings.max_grad_norm)
    trainer.optimizers.step(factor)
    load = max((float(router.load.max() / router.load.mean()) for router in model.routers()), default=1.0)
    model.rebalance(settings.balance_speed)
    return {
        "loss": next_token,
        "mtp_loss": further,
        "balance_loss": balance,
        "grad_norm": grad_norm,
        "learning_rate": settings.learning_rate * factor,
        "load_max": load,
    }


def _tokenizer(settings: PretrainingSettings, seed: int) -> Tokenizer:
    """The stage's tokenizer: another model's, or one trained on the first documents of the corpus."""
    if settings.tokenizer is not None:
        return Tokenizer.from_directory(resolve(settings.tokenizer))
    documents = _documents(settings, seed)
    texts = (corpus.text(document) for document in islice(documents, settings.tokenizer_documents))
    return Tokenizer.train(texts, settings.vocabulary)


experts_unbalanced = threshold(
    "experts_unbalanced", "load_max", above=4, after=10 * WINDOW,
    text="the busiest expert gets {:.1f} times its share of the tokens; raise `balance_speed`",
)  # fmt: skip
READING_METRICS = (
    Metric("loss", "loss"), Metric("mtp_loss", "mtp loss"), Metric("tokens_per_second", "tokens/s", "{:,.0f}"),
    *map(Metric, ("balance_loss", "grad_norm", "learning_rate", "load_max")),
)  # fmt: skip
GRADIENT_NORM = ChartSpec("Gradient norm", [Series("grad_norm", "norm")], "Before clipping.", extreme=True)
LEARNING_RATE = ChartSpec("Learning rate", [Series("learning_rate", "rate")])
SPEED = ChartSpec("Speed", [Series("tokens_per_second", "training")], "Tokens a second.", first=True)
READING_CHARTS = (
    ChartSpec("Loss", [Series("loss", "next token"), Series("mtp_loss", "token after")], "Nats a token.", first=True),
    GRADIENT_NORM, LEARNING_RATE, SPEED,
    ChartSpec("Busiest expert", [Series("load_max", "load")],
              "Its share of the tokens, in multiples of an equal share."),
)  # fmt: skip
READING_ADVICE = (not_finite, loss_rises, gradient_spikes, experts_unbalanced)

STAGE = StageKind(
    PretrainingSettings, Pretraining, READING_METRICS, READING_CHARTS, READING_ADVICE, takes={"tokenizer": MODEL}
)
