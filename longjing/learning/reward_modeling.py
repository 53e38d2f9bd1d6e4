"""Reward models: a network learns which of two answers is better, or whether a text is good, and then rewards.

DeepSeek-R1 has two for its last round of reinforcement (Nature 645, methods): one for helpfulness, which learns
from 66,000 pairs and judges the final answer only, and one for safety, which learns from 106,000 labelled texts
and judges everything, the reasoning too. Both learn for a single epoch, 256 examples a step, at 6e-6. What
deviates: the body is whatever model the stage begins with, under a new head of zeros.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from longjing.batching import by_length
from longjing.cluster.runtime import Runtime
from longjing.data.preference_data import Judges, encode, held_out, read_preferences
from longjing.errors import UserError
from longjing.evaluation.pass_at_k import pass_at_1
from longjing.files import digest, write_text
from longjing.learning.advice import gradient_spikes, loss_rises, not_finite
from longjing.learning.loop import SILENT, ModelTrainer, Step
from longjing.learning.memory import Work
from longjing.learning.optimizers import adamw, clip_gradients
from longjing.learning.pretraining import GRADIENT_NORM, LEARNING_RATE, SPEED
from longjing.learning.settings import ModelSettings, UpdateSettings
from longjing.learning.stage import MODEL, PREFERENCES, REWARD_MODEL, StageKind, facts_of
from longjing.model.reward_model import RewardModel
from longjing.planning import flops
from longjing.runs import Watcher
from longjing.runs.jsonl import Row
from longjing.runs.metric import ChartSpec, Measured, Metric, Series
from longjing.text.tokenizer import Tokenizer
from longjing.toys.generated_preferences import GeneratedPreferences

CARD = "reward.json"  # beside the model: what it judges, and how it learned to


class RewardModelingSettings(ModelSettings, UpdateSettings):
    """The settings of a reward-model stage."""

    kind: Literal["reward-model"] = "reward-model"
    model: str = Field("base", description="whose body to start from: a shipped name, a directory, or a run")
    data: GeneratedPreferences | list[str] = Field(
        description="files of preference data; or `helpfulness` or `safety`, which are generated"
    )
    judges: Judges | None = Field(
        None, description="what it reads of a completion; not given: of pairs the answer, else everything"
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the prompts that are kept for measuring")
    epochs: int = Field(1, ge=1)
    batch_size: int = Field(256, ge=1, description="pairs, or labelled texts, of an optimiser step")
    learning_rate: float = Field(6e-6, gt=0)
    centre: float = Field(0.01, ge=0, description="how strongly the scores of pairs are kept around zero")
    max_length: int = Field(8192, ge=1, description="tokens; examples with a longer text are left out")

    @field_validator("data", mode="before")
    @classmethod
    def _name_or_file(cls, data: Any) -> Any:
        if data in ("helpfulness", "safety"):
            return {"generated": data}
        return [data] if isinstance(data, str) else data


@dataclass(frozen=True)
class RewardExample:
    """A pair (the better text first) or a labelled text, as a reward model reads it."""

    prompt: str
    kind: str
    texts: list[list[int]]
    label: bool | None

    @property
    def longest(self) -> int:
        return max(map(len, self.texts))

    @property
    def tokens(self) -> int:
        return sum(map(len, self.texts))


@dataclass(frozen=True)
class Data:
    """What a stage learns from and what it is measured on; `facts`: what there is to say about it."""

    name: str
    judges: Judges
    train: list[RewardExample]
    held_out: list[RewardExample]
    facts: dict[str, Any]


def load_data(settings: RewardModelingSettings, tokenizer: Tokenizer, seed: int) -> Data:
    """The stage's data, cut into tokens. Raises UserError for data that can't be read or leave nothing to do."""
    paths: list[str] = []
    if isinstance(settings.data, GeneratedPreferences):
        name: str = settings.data.generated
        preferences, differing = settings.data.make(seed), 0
    else:
        paths = settings.data
        name = "+".join(Path(path).stem for path in paths)
        read = [read_preferences(path, tokenizer.control_tokens) for path in paths]
        preferences = [preference for examples, _ in read for preference in examples]
        differing = sum(left_out for _, left_out in read)
    pairs = sum(preference.label is None for preference in preferences)
    if pairs not in (0, len(preferences)):
        raise UserError(f"{name} mixes pairs with labelled texts; make two reward models, each of its own data")
    judges: Judges = settings.judges or ("answer" if pairs else "everything")
    parts: dict[bool, list[RewardExample]] = {False: [], True: []}
    for preference in preferences:
        try:
            texts = [encode(tokenizer, preference.prompt, text, judges) for text in preference.texts]
        except UserError as error:  # the template's: it knows messages, and not whose
            raise UserError(f"{preference.origin or name}: {error}") from error
        example = RewardExample(preference.key, preference.kind, texts, preference.label)
        if example.longest <= settings.max_length:
            parts[held_out(preference, settings.held_out)].append(example)
    used = len(parts[False]) + len(parts[True])
    if not parts[False] or not parts[True]:
        raise UserError(
            f"{name}: of {len(preferences)} examples, {used} of them of at most {settings.max_length} tokens, "
            f"{len(parts[False])} are left to learn from and {len(parts[True])} held out; give more, or change "
            "`max_length` or `held_out`"
        )
    facts = {
        "data": [digest(path) for path in paths],
        "examples": len(parts[False]),
        "held_out": len(parts[True]),
        "too_long": len(preferences) - used,
        "prompts_differ": differing,
    }
    return Data(name, judges, parts[False], parts[True], facts)


def batch(settings: RewardModelingSettings, count: int, seed: int, step: int) -> list[int]:
    """The numbers of a step's examples, of `count`: each epoch has all of them once, in an order of its own."""
    epoch, index = divmod(step, steps_per_epoch(settings, count))
    order = list(range(count))
    Random(f"preference {seed} {epoch}").shuffle(order)
    return order[index * settings.batch_size : (index + 1) * settings.batch_size]


def steps_per_epoch(settings: RewardModelingSettings, count: int) -> int:
    return math.ceil(count / settings.batch_size)


def microbatches(examples: Sequence[RewardExample], budget: int) -> list[list[RewardExample]]:
    """The examples cut into parts of similar lengths, each of at most `budget` tokens with its padding."""
    sizes = [len(example.texts) * example.longest for example in examples]
    return [[examples[index] for index in batch] for batch in by_length(sizes, budget)]


def pairwise_loss(chosen: Tensor, rejected: Tensor, centre: float = 0.0) -> Tensor:
    """-log sigmoid(c - r) + centre * (c + r)^2 for the scores of each pair, `[pairs]`.

    The first term: the chosen answer wins with the probability that its lead gives it (Bradley and Terry 1952;
    InstructGPT, arXiv 2203.02155, equation 1), as R1's reward for helpfulness. It says nothing about where
    scores lie; the second term keeps them around 0 (arXiv 2312.09244), where a sigmoid tells them apart.
    """
    return -F.logsigmoid(chosen - rejected) + centre * (chosen + rejected).square()


def pointwise_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """-[y log sigmoid(s) + (1 - y) log(1 - sigmoid(s))] for each score s with its label y (0 or 1), `[texts]`:
    binary cross-entropy, as R1's reward for safety, with sigmoid(s) the probability of y = 1."""
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="none")


def losses_and_margins(model: RewardModel, examples: Sequence[RewardExample], centre: float) -> tuple[Tensor, Tensor]:
    """The loss of each example, and by how much the model is right: the lead of the better text, or the score
    on the side of the label. Both `[examples]`."""
    scores = model.score([text for example in examples for text in example.texts])
    if examples[0].label is None:
        chosen, rejected = scores.view(-1, 2).unbind(dim=1)
        return pairwise_loss(chosen, rejected, centre), chosen - rejected
    labels = torch.tensor([float(bool(example.label)) for example in examples], device=scores.device)
    return pointwise_loss(scores, labels), scores * (2 * labels - 1)


def right(margins: Tensor) -> Tensor:
    """1 where the model is right, 0 where it is wrong, one half where it can't tell: float `[examples]`."""
    return (margins.sign() + 1) / 2


class RewardModeling(ModelTrainer):
    """A reward model, the examples it learns, and those that it is measured on."""

    preparing = "reading the preference data"
    model: RewardModel

    def __init__(self, settings: RewardModelingSettings, runtime: Runtime, watcher: Watcher = SILENT) -> None:
        self.settings, self.runtime, self.watcher = settings, runtime, watcher
        body, self.tokenizer = settings.load(runtime)
        pad = self.tokenizer.pad_id if self.tokenizer.pad_id != self.tokenizer.eos_id else None
        self.model = RewardModel.from_decoder(body, pad).train()
        self.data = load_data(settings, self.tokenizer, runtime.seed)
        self.facts = self.data.facts
        self.steps = settings.epochs * steps_per_epoch(settings, len(self.data.train))
        self.optimizers = adamw(self.model, settings.learning_rate, settings.weight_decay)

    def work(self) -> Work:
        largest = max(len(example.texts) * example.longest for example in self.data.train)
        return self._work(largest, largest * self.settings.batch_size, 8192)

    def step(self, step: int) -> Step:
        settings = self.settings
        numbers = batch(settings, len(self.data.train), self.runtime.seed, step)
        examples = [self.data.train[number] for number in numbers]
        total, margins = 0.0, []
        for part in microbatches(examples, self.memory.micro_tokens):
            with self.runtime.autocast():
                losses, margin = losses_and_margins(self.model, part, settings.centre)
            loss = losses.sum() / len(examples)
            torch.autograd.backward(loss)
            total += float(loss.detach())
            margins.append(margin.detach())
        grad_norm = clip_gradients(self.model, settings.max_grad_norm)
        factor = min(1.0, (step + 1) / (settings.warmup_steps + 1))
        self.optimizers.step(factor)
        lead = torch.cat(margins)
        texts = [text for example in examples for text in example.texts]
        passes = 3 if settings.lora is None else 2  # a frozen body has no gradients of weights
        return Step(
            {
                "epoch": settings.epochs * (step + 1) / self.steps,
                "loss": total,
                "accuracy": float(right(lead).mean()),
                "margin": float(lead.mean()),
                "grad_norm": grad_norm,
                "learning_rate": settings.learning_rate * factor,
                "tokens": sum(example.tokens for example in examples),
                "flops": passes * reading_flops(self.model, map(len, texts)),
            }
        )

    def evaluate(self, step: int) -> Iterator[Row]:
        """A measurement on the held-out prompts, after the last step."""
        if step + 1 == self.steps:
            self.watcher.status("measuring the reward model on the held-out prompts")
            yield measure(self.model, self.data, self.settings.centre, self.memory.micro_tokens, self.runtime)

    def export(self, directory: Path) -> None:
        super().export(directory)
        card = {"judges": self.data.judges, "learned": "pairs" if self.data.train[0].label is None else "labels"}
        write_text(directory / CARD, json.dumps(card) + "\n")

    def summary(self, totals: Mapping[str, Any], evaluations: Sequence[Row]) -> dict[str, Any]:
        measured = evaluations[-1]
        return {"judges": self.data.judges, **{name: measured[name] for name in ("accuracy", "low", "high", "by_kind")}}


@torch.no_grad()
def measure(model: RewardModel, data: Data, centre: float, micro_tokens: int, runtime: Runtime) -> dict[str, Any]:
    """How often the model is right about the held-out examples, as a line for the log.

    The interval is over prompts, since the examples of one prompt resemble each other. `by_kind`: accuracy by
    kind, where examples have one. Of pairs also the share in which the better answer is the longer one (in
    tokens), and that in which the longer one scores higher; pairs of one length are left out there.
    """
    began = time.perf_counter()
    model.eval()
    parts = microbatches(data.held_out, micro_tokens)
    with runtime.autocast():
        losses, margins = zip(*(losses_and_margins(model, part, centre) for part in parts), strict=True)
    model.train()
    examples = [example for part in parts for example in part]
    lead = torch.cat(margins).cpu()
    by_prompt, by_kind = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for example, mark in zip(examples, right(lead).tolist(), strict=True):
        by_prompt[example.prompt].append(mark)
        by_kind[example.kind].append(mark)
    accuracy = pass_at_1(np.array([[np.mean(marks)] for marks in by_prompt.values()]), runtime.seed)
    lengths = [len(text) for example in examples for text in example.texts]
    return {
        "task": data.name,
        "split": "held-out",
        "problems": len(by_prompt),
        "samples": 1,
        "accuracy": accuracy.mean,
        "pass_at_1": accuracy.mean,  # the same, under the name that every measurement has
        "low": accuracy.low,
        "high": accuracy.high,
        "interval": accuracy.method,
        "by_kind": {kind: float(np.mean(marks)) for kind, marks in sorted(by_kind.items()) if kind},
        **_longer(examples, lead),
        "loss": float(torch.cat(losses).mean()),
        "margin": float(lead.mean()),
        "maj_at_k": None,
        "length_mean": float(np.mean(lengths)),
        "truncated": 0.0,
        "tokens": 0,  # none was sampled
        "flops": reading_flops(model, lengths),
        "seconds": time.perf_counter() - began,
        "examples": [],
    }


def _longer(examples: Sequence[RewardExample], margins: Tensor) -> dict[str, float]:
    """What length has to do with it, for pairs."""
    if examples[0].label is not None:
        return {}
    longer = torch.tensor([float(len(example.texts[0]) - len(example.texts[1])) for example in examples]).sign()
    differ = longer != 0
    if not differ.any():
        return {}
    return {
        "longer_better": float(right(longer[differ]).mean()),
        "longer_scores_higher": float(right((longer * margins)[differ]).mean()),
    }


def reading_flops(model: RewardModel, lengths: Iterable[int]) -> float:
    """FLOPs of one forward pass over texts of so many tokens."""
    return sum(length * flops.forward(model.config, (length + 1) / 2, head=False) for length in lengths)


STAGE = StageKind(
    RewardModelingSettings, RewardModeling,
    (
        Metric("loss", "loss"), Metric("accuracy", "accuracy", "{:.0%}"),
        Metric("tokens_per_second", "tokens/s", "{:,.0f}"),
        *map(Metric, ("grad_norm", "learning_rate", "epoch", "examples", "too_long", "low", "high", "margin",
                      "held_out", "prompts_differ")),
    ),
    (
        ChartSpec("Loss", [Series("loss", "loss")], "Nats an example.", first=True),
        ChartSpec("Accuracy", [Series("accuracy", "training"), Measured("held-out", "held out")],
                  "Pairs put into the right order, or texts told apart. Whiskers are 95% intervals.",
                  percent=True, first=True),
        ChartSpec("Margin", [Series("margin", "lead")], "By how much the better side leads, mean score.", first=True),
        GRADIENT_NORM, LEARNING_RATE, SPEED,
    ),
    (not_finite, loss_rises, gradient_spikes),
    makes=REWARD_MODEL, takes={"model": MODEL, "data": PREFERENCES},
    facts=facts_of("examples", "held_out", "too_long", "prompts_differ", "judges"),
)  # fmt: skip
