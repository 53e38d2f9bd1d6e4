"""Pretraining: next-token prediction, and a little beyond, on the generated corpus.

What deviates from DeepSeek-V3 (section 4.2): Muon instead of AdamW for the hidden matrices, a trapezoidal
learning rate, and batches that are a pure function of (seed, step), so that the data cursor is the step.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from longjing.errors import UserError
from longjing.learning.optimizers import clip_gradients, muon
from longjing.learning.packing import Packed, ahead, pack
from longjing.learning.state import disk_bytes, gather, restore
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.store.checkpoint import resolve, save_model
from longjing.planning import flops
from longjing.runs import StageDirectory
from longjing.text.tokenizer import Tokenizer
from longjing.toys import corpus
from longjing.toys.document import Document


class PretrainingSettings(BaseModel):
    """The settings of a pretraining stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pretrain"] = "pretrain"
    model: dict[str, Any] = Field(description="the network's config.json; vocab_size is the tokenizer's")
    vocabulary: int = Field(1024, ge=300, description="tokens of the tokenizer, which is trained first")
    tokenizer: str | None = Field(
        None, description="a model whose tokenizer to take; if not given, one is trained"
    )
    tokenizer_documents: int = Field(20_000, ge=100, description="documents that the tokenizer is trained on")
    corpus: dict[str, float] = Field(description="how often each kind of document is met")
    tasks: dict[str, dict[str, Any]] = Field(
        {}, description="settings of the tasks, by name; `difficulty` may be a list"
    )
    follow_ups: float = Field(
        0.0, ge=0, le=1, description="share of documents that go on with a conversation"
    )
    unthinking: float = Field(0.0, ge=0, le=1, description="share of brief answers given without thinking")
    steps: int = Field(ge=1)
    rows: int = Field(16, ge=1, description="rows of a batch")
    row_length: int = Field(512, ge=16, description="tokens of a row, into which documents are packed")
    learning_rate: float = Field(0.02, gt=0, description="Muon's, for the hidden matrices")
    adamw_learning_rate: float = Field(0.003, gt=0, description="for embeddings, head, routers and norms")
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(50, ge=0)
    decay_share: float = Field(
        0.4, ge=0, le=1, description="share of the steps in which the rate falls to zero"
    )
    max_grad_norm: float = Field(1.0, gt=0)
    mtp_weight: float = Field(0.3, ge=0, description="of the further tokens' loss, until the rate decays")
    mtp_weight_late: float = Field(0.1, ge=0, description="and from then on")
    balance_speed: float = Field(0.001, ge=0, description="gamma: the step of the routers' biases")
    balance_weight: float = Field(1e-4, ge=0, description="alpha, of the sequence-wise balance loss")
    save_every: int = Field(50, ge=1)


@dataclass(frozen=True)
class Losses:
    """Means over the tokens they count, scalars: next token, further tokens, balance."""

    next_token: Tensor
    further: Tensor
    balance: Tensor


def losses(model: Decoder, packed: Packed) -> Losses:
    """The losses of one batch of packed rows (DeepSeek-V3, equations 17 to 25)."""
    context = model.context(packed.positions, segments=packed.segments)
    context.balance = []
    hidden = model.hidden(packed.tokens, context)
    targets, counts = ahead(packed, 1)
    first = _cross_entropy(model, hidden[:, :-1], targets, counts)
    further = [torch.zeros_like(first)]
    for depth in range(len(model.mtp)):
        # Position i joins its hidden state with token i + 1 + depth, and predicts the one after that.
        width = packed.tokens.shape[1] - 1 - depth
        inner = model.context(packed.positions[:, :width], segments=packed.segments[:, :width])
        hidden = model.next_hidden(depth, packed.tokens[:, 1 + depth :], hidden[:, :width], inner)
        targets, counts = ahead(packed, 2 + depth)
        further.append(_cross_entropy(model, hidden[:, :-1], targets, counts))
    balance = torch.stack(context.balance).sum() if context.balance else torch.zeros_like(first)
    return Losses(first, torch.stack(further).sum() / max(1, len(model.mtp)), balance)


def _cross_entropy(model: Decoder, hidden: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    return F.cross_entropy(model.head(hidden[counts]).float(), targets[counts])


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


def pretrain(
    settings: PretrainingSettings,
    stage: StageDirectory,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Run the stage to its end, from wherever it stands.

    `dtype` bfloat16 computes in autocast; weights and optimiser state are float32 either way.
    Raises UserError if the disk is too small, the rows are, or learning diverges.
    """
    saved = stage.load_state()
    tokenizer = _tokenizer(settings, stage, seed)
    config = ModelConfig.from_dict(
        settings.model
        | {
            "vocab_size": tokenizer.vocab_size,
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": tokenizer.eos_id,
        }
        | {"pad_token_id": tokenizer.pad_id, "max_position_embeddings": 4 * settings.row_length}
    )
    model = Decoder(config).initialise(seed).to(device).train()
    stage.run.reserve(disk_bytes(model))
    optimizers = muon(model, settings.learning_rate, settings.adamw_learning_rate, settings.weight_decay)
    facts: dict[str, Any] = {"step": -1, "time": 0.0, "tokens": 0, "flops": 0.0}
    if saved is not None:
        tensors, facts = saved
        restore(tensors, model, optimizers)
    for step in range(facts["step"] + 1, settings.steps):
        began = time.perf_counter()
        packed = batch(settings, tokenizer, seed, step).to(device)
        if not packed.loss_mask.any():
            raise UserError(
                f"no document fits into a row of {settings.row_length} tokens; raise `row_length`"
            )
        factor = rate_factor(step, settings)
        decaying = step >= settings.steps * (1 - settings.decay_share)
        mtp_weight = settings.mtp_weight_late if decaying else settings.mtp_weight
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = losses(model, packed)
        total = loss.next_token + mtp_weight * loss.further + settings.balance_weight * loss.balance
        torch.autograd.backward(total)
        grad_norm = clip_gradients(model, settings.max_grad_norm)
        optimizers.step(factor)
        load = max((float(router.load.max() / router.load.mean()) for router in model.routers()), default=1.0)
        model.rebalance(settings.balance_speed)
        seconds = time.perf_counter() - began
        tokens = int((packed.segments > 0).sum())
        facts = {
            "step": step,
            "time": facts["time"] + seconds,
            "tokens": facts["tokens"] + tokens,
            "flops": facts["flops"] + tokens * flops.training(config, settings.row_length / 4, mtp=True),
        }
        stage.metrics.append(
            {
                **facts,
                "loss": float(loss.next_token.detach()),
                "mtp_loss": float(loss.further.detach()),
                "balance_loss": float(loss.balance.detach()),
                "grad_norm": grad_norm,
                "learning_rate": settings.learning_rate * factor,
                "tokens_per_second": tokens / seconds,
                "load_max": load,
            }
        )
        if (step + 1) % settings.save_every == 0 or step + 1 == settings.steps:
            stage.save_state(step, gather(model, optimizers), facts)
    with stage.model_directory() as directory:
        save_model(model, directory)
        tokenizer.save(directory)
    stage.finish({key: facts[key] for key in ("tokens", "flops", "time")})


def _tokenizer(settings: PretrainingSettings, stage: StageDirectory, seed: int) -> Tokenizer:
    """The stage's tokenizer: another model's, or one trained on the first documents of the corpus."""
    if settings.tokenizer is not None:
        return Tokenizer.from_directory(resolve(settings.tokenizer))
    stage.status("training the tokenizer")
    documents = _documents(settings, seed)
    texts = (corpus.text(document) for document in islice(documents, settings.tokenizer_documents))
    return Tokenizer.train(texts, settings.vocabulary)
