"""A policy that learns from what it samples itself: what reinforcement and on-policy distillation share.

One step: sample a group of completions for each problem, judge them, give each sampled token an advantage, and move the
policy along the gradient (`objectives.py`). The two differ in where advantages come from. The log-probabilities of the
sampling policy are the engine's own, which equal the trainer's (the difference is measured at every step), and mixture
layers replay the experts that the engine took, without which a difference in rounding could flip an expert.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from longjing.batching import by_length
from longjing.cluster.runtime import Runtime
from longjing.generation.request import Generation
from longjing.learning.advice import rounding
from longjing.learning.logprobs import by_chunks, token_logprobs
from longjing.learning.loop import ModelTrainer
from longjing.learning.memory import Work
from longjing.learning.objectives import PolicyLoss, PolicyStatistics, policy_loss, token_weights
from longjing.learning.optimizers import clip_gradients
from longjing.learning.policy_batch import PolicyBatch
from longjing.learning.presets import Preset
from longjing.learning.rollouts import (
    Group,
    Padded,
    draw_problems,
    judge_group,
    pad,
    reflections,
    sample_groups,
    sampling_flops,
)
from longjing.learning.settings import (
    EngineSettings,
    EvaluationSettings,
    ModelSettings,
    OptimizerSettings,
    TaskReference,
)
from longjing.model.decoder import Decoder
from longjing.planning import flops
from longjing.problems import Split, Task, max_turns
from longjing.runs import Watcher
from longjing.runs.jsonl import Row

_PROMPT = 128  # tokens that prompts are taken to have where only settings are known


class PolicyEvaluationSettings(EvaluationSettings):
    """How the policy is measured: on the test split before and after, on the validation split in between."""

    every: int = Field(0, ge=0, description="steps between measurements on the validation split; 0 for none")


class PolicySettings(ModelSettings, OptimizerSettings, EngineSettings):
    """What every stage that samples and learns has."""

    save_steps: ClassVar[int] = 1
    task: TaskReference
    steps: int = Field(ge=1)
    prompts_per_step: int = Field(32, ge=1)
    group_size: int = Field(16, ge=1)
    minibatches: int = Field(1, ge=1, description="optimiser steps that one step's rollouts are cut into")
    max_tokens: int = Field(ge=1, description="longest completion")
    temperature: float = Field(1.0, gt=0)
    learning_rate: float = Field(3e-6, gt=0, description="Muon's, if that is the optimiser")
    evaluation: PolicyEvaluationSettings = Field(default_factory=lambda: PolicyEvaluationSettings.model_validate({}))

    @model_validator(mode="after")
    def _whole_minibatches(self) -> Self:
        if self.prompts_per_step % self.minibatches:
            raise ValueError(f"minibatches {self.minibatches} does not divide prompts_per_step {self.prompts_per_step}")
        return self


class PhaseTimer:
    """Seconds spent in each phase of a step."""

    def __init__(self) -> None:
        self.seconds = {"sampling": 0.0, "judging": 0.0, "updating": 0.0}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


@dataclass(frozen=True)
class TrainingSample:
    """A completion to learn from; `advantages`: of each of its sampled tokens `[tokens]`, or one for all `[]`."""

    generation: Generation
    advantages: Tensor


@dataclass(frozen=True)
class Update:
    """What a step's optimiser steps did. `statistics` None: there was nothing to learn from. `grad_norm`: the
    largest, before clipping. `tokens`: trained on, prompts included."""

    statistics: PolicyStatistics | None
    grad_norm: float
    tokens: int


class OnPolicyTrainer(ModelTrainer):
    """A policy and the machinery that samples from it and moves it."""

    totals = ("tokens_sampled", "tokens_trained", "flops")
    logs_totals = False
    tags = False  # whether the prompts ask for reasoning between tags, where a model needs to be told

    def __init__(self, settings: PolicySettings, preset: Preset, runtime: Runtime, watcher: Watcher) -> None:
        self.settings, self.preset, self.runtime, self.watcher = settings, preset, runtime, watcher
        self.steps = settings.steps
        self.task = settings.task.make()
        self.replying = max_turns(self.task) > 1
        self.model, self.tokenizer = settings.load(runtime)
        self.optimizers = settings.optimizers(self.model)
        self.generator = settings.generator(self.model, self.tokenizer, runtime, watcher, training=True)
        needs = ["seeds", "exact_logprobs", *(["routes"] if next(self.model.routers(), None) else [])]
        self.generator.capabilities.require("training on its own samples", *needs)

    def restore(self, tensors: dict[str, Tensor], totals: Mapping[str, Any]) -> None:
        super().restore(tensors, totals)
        self.generator.update_weights()

    def work(self) -> Work:
        """With the policy go its reference, and the engine with its cache and, in bfloat16, its copy of the policy."""
        settings, model = self.settings, self.model
        longest = _PROMPT + settings.max_tokens
        together = min(settings.max_batch, settings.prompts_per_step * settings.group_size)
        cache = together * longest * flops.cache_bytes(model.config, 4 if self.runtime.device.type == "cpu" else 2)
        half = self.runtime.dtype == torch.bfloat16
        reference = sum(tensor.nbytes for tensor in (self._reference or {}).values())
        copies = sum(2 * parameter.numel() for parameter in model.parameters() if parameter.dtype == torch.float32)
        others = min(cache, settings.cache_megabytes * 2**20) + half * copies + reference
        most = settings.prompts_per_step * settings.group_size // settings.minibatches * longest
        return self._work(longest, most, 8192, others, scores=not half and self.runtime.device.type == "cpu")

    def _sample(self, task: Task, count: int, step: int, turn: int, timer: PhaseTimer) -> list[Group]:
        """Judged groups of `count` training problems."""
        settings = self.settings
        sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        problems = draw_problems(task, count, self.runtime.seed, step, turn)
        drawn = [(task, problem) for problem in problems]
        with timer.phase("sampling"):
            sampled = sample_groups(
                self.generator, self.tokenizer, drawn, settings.group_size, sampling, self.runtime.seed, step, turn,
                settings.instruction, self.tags,
            )  # fmt: skip
        with timer.phase("judging"):
            return [judge_group(*pair, group) for pair, group in zip(drawn, sampled, strict=True)]

    def _update(self, step: int, groups: Sequence[Sequence[TrainingSample]]) -> Update:
        """Optimiser steps over the groups, in minibatches of whole groups."""
        parts = [groups[number :: self.settings.minibatches] for number in range(self.settings.minibatches)]
        done = [self._optimise(step, [sample for group in part for sample in group]) for part in filter(None, parts)]
        self.generator.update_weights()
        if not done:
            return Update(None, 0.0, 0)
        statistics, norms, trained = zip(*done, strict=True)
        # The law speaks of the policy that sampled: before the first optimiser step.
        first, total = statistics[0], reduce(add, statistics)
        distance = first.logprob_distance / first.tokens.clamp(min=1) * total.tokens
        total = replace(
            total, loss=total.loss / len(done), logprob_difference=first.logprob_difference, logprob_distance=distance
        )
        return Update(total, max(norms), sum(trained))

    def _optimise(self, step: int, samples: Sequence[TrainingSample]) -> tuple[PolicyStatistics, float, int]:
        """One optimiser step: the loss has one denominator over all its microbatches."""
        generations = [sample.generation for sample in samples]
        # Only lengths matter to the weights, so what was said in between needn't stand where it did.
        counts = torch.tensor([generation.length for generation in generations])
        mask = torch.arange(int(counts.max())) < counts[:, None]
        per_token = token_weights(mask, self.preset.aggregation, self.settings.max_tokens)[:, 0]
        statistics: list[PolicyStatistics] = []
        done = 0
        sizes = [len(generation.prompt) + len(generation.tokens) for generation in generations]
        for batch in by_length(sizes, self.memory.micro_tokens):
            padded = pad([generations[row] for row in batch], self.tokenizer.pad_id, self.runtime.device)
            weights = per_token[batch].to(self.runtime.device)[:, None]
            loss = self._loss([samples[row] for row in batch], padded, weights)
            torch.autograd.backward(loss.loss)
            statistics.append(loss.statistics)
            done += len(batch)
            self.watcher.updated(done, len(samples))
        norm = clip_gradients(self.model, self.settings.max_grad_norm)
        self.optimizers.step(self._rate_factor(step))
        return reduce(add, statistics), norm, sum(sizes)

    def _loss(self, samples: Sequence[TrainingSample], padded: Padded, weights: Tensor) -> PolicyLoss:
        """The loss of a microbatch; `weights` `[batch, 1]`, of each token of a completion."""
        advantages = [sample.advantages.expand(sample.generation.length) for sample in samples]
        return self._policy_loss(self._logprobs(self.model, padded), padded, torch.cat(advantages), weights)

    def _policy_loss(self, logprobs: Tensor, padded: Padded, advantages: Tensor, weights: Tensor) -> PolicyLoss:
        """The objective; `logprobs` `[batch, length - 1]`, `advantages` `[tokens]`: the advantage of each."""
        batch = PolicyBatch(
            logprobs=logprobs,
            old_logprobs=padded.old_logprobs,
            advantages=scatter(padded, advantages.to(self.runtime.device)),
            mask=padded.sampled,
            weights=weights,
            reference_logprobs=self._reference_logprobs(padded),
        )
        return policy_loss(batch, self.preset.objective)

    def _logprobs(self, model: Decoder, padded: Padded) -> Tensor:
        """Log-probability of each next token `[batch, length - 1]`, zero where the policy sampled none."""
        hidden, head = self._read(model, padded)

        def chosen(hidden: Tensor, targets: Tensor) -> Tensor:
            return token_logprobs(head(hidden), targets, self.settings.temperature)

        chunk, frozen = self.memory.chunk_tokens, model.head_is_frozen
        return scatter(padded, by_chunks(chosen, chunk, hidden, self._targets(padded), frozen=frozen))

    def _read(self, model: Decoder, padded: Padded) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The hidden states that the sampled tokens were drawn from, `[tokens, width]`, and the model's head, which
        makes their logits of some of them."""
        positions = torch.arange(padded.tokens.shape[1], device=self.runtime.device).expand_as(padded.tokens)
        with self.runtime.autocast():
            context = model.context(positions, replay=padded.routes, batch_invariant=True)
            hidden = model.hidden(padded.tokens, context)[:, :-1][padded.sampled]

        def head(hidden: Tensor) -> Tensor:
            with self.runtime.autocast():
                return model.head(hidden, context)

        return hidden, head

    def _targets(self, padded: Padded) -> Tensor:
        """The sampled tokens, `[tokens]`."""
        return padded.tokens[:, 1:][padded.sampled]

    def _reference_logprobs(self, padded: Padded) -> Tensor | None:
        """The reference takes its own experts: it is another policy, not another rounding of this one."""
        if self.reference is None:
            return None
        with self.reference.active() as reference:
            return self._logprobs(reference, replace(padded, routes=None))

    def _rate_factor(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.settings.warmup_steps + 1))

    def _metrics(self, step: int, groups: list[Group], update: Update, timer: PhaseTimer) -> dict[str, Any]:
        """What was sampled and how the update went, for the log."""
        generations = [generation for group in groups for generation in group.generations]
        completions = [completion for group in groups for completion in group.completions]
        verdicts = [verdict for group in groups for verdict in group.verdicts]
        checked = [verdict.outcome == "correct" for verdict in verdicts if "accuracy" in verdict.rewards]
        lengths = [generation.length for generation in generations]
        logprobs = [value for generation in generations for value in generation.logprobs]
        reasoning = [len(self.tokenizer.encode(completion.all_reasoning)) for completion in completions]
        sampled = sum(lengths)
        return {
            **({"accuracy": mean(checked)} if checked else {}),
            "language": mean([verdict.rewards["language"] for verdict in verdicts]),
            "length_mean": sampled / len(lengths),
            "length_max": max(lengths),
            "reasoning_length_mean": mean(reasoning),
            "truncated": mean([completion.truncated for completion in completions]),
            "unjudged": sum(verdict.outcome == "unjudged" for verdict in verdicts),
            # The mean of -log p over what was sampled from p is an unbiased estimate of its entropy.
            "entropy": -sum(logprobs) / max(1, len(logprobs)),
            "reflection": mean([sum(map(reflections, texts)) for group in groups for texts in group.texts]),
            **({"turns": mean([len(each.earlier) + 1 for each in completions])} if self.replying else {}),
            **(update.statistics.means() if update.statistics else {}),
            "rounding": rounding(self.model.config.num_hidden_layers, -min(logprobs, default=0.0)),
            "grad_norm": update.grad_norm,
            "learning_rate": self.settings.learning_rate * self._rate_factor(step),
            **{f"seconds_{name}": seconds for name, seconds in timer.seconds.items()},
            "tokens_sampled": sampled,
            "tokens_trained": update.tokens,
            "tokens_per_second_sampling": sampled / max(1e-9, timer.seconds["sampling"]),
            "tokens_per_second_updating": update.tokens / max(1e-9, timer.seconds["updating"]),
        }

    def _flops(self, groups: list[Group], trained: int) -> float:
        """Sampling every group, and training (with the reference's forward pass) on `trained` tokens."""
        config, length = self.model.config, length_mean(groups)
        a_token = flops.training(config, length, frozen=self.settings.lora is not None)
        if self.reference is not None:
            a_token += flops.forward(config, (length + 1) / 2)
        return sampling_flops(config, groups) + trained * a_token

    def evaluate(self, step: int) -> Iterator[Row]:
        """Held-out accuracy: on the test split before the first step and after the last, between on validation."""
        settings, every = self.settings, self.settings.evaluation.every
        split: Split = "test"
        if step in (-1, self.steps - 1):
            when = "before" if step < 0 else "after"
            self.watcher.status(f"measuring the model on the test problems, {when}")
        elif every and (step + 1) % every == 0:
            self.watcher.status("measuring on the validation problems")
            split = "validation"
        else:
            return
        yield settings.evaluation.measure(
            self.generator, self.tokenizer, self.task, self.model, split=split, seed=self.runtime.seed,
            temperature=settings.temperature, max_tokens=settings.max_tokens, instruction=settings.instruction,
            tags=self.tags,
        )  # fmt: skip


def record(group: Group, scores: Sequence[dict[str, Any]]) -> Row:
    """A group as a line of rollouts.jsonl; `scores`: what each of its completions earned."""
    details = [
        {"tokens": generation.tokens, "logprobs": aligned(generation, generation.logprobs), **score}
        for generation, score in zip(group.generations, scores, strict=True)
    ]
    return group.to_row(details)


def aligned(generation: Generation, values: Sequence[float]) -> list[float | None]:
    """A value of each sampled token at its place among all tokens, None where a token wasn't sampled; for the log."""
    remaining = iter(values)
    return [round(next(remaining), 4) if sampled else None for sampled in generation.sampled]


def length_mean(groups: Sequence[Group]) -> float:
    """Tokens of a prompt with its completion."""
    return mean([len(g.prompt) + len(g.tokens) for group in groups for g in group.generations])


def mean(values: Sequence[float]) -> float:
    """0 if there are none."""
    return sum(values) / max(1, len(values))


def scatter(padded: Padded, values: Tensor) -> Tensor:
    """A value for each sampled token `[tokens]`, put where it belongs `[batch, length - 1]`, among zeros."""
    return torch.zeros_like(padded.old_logprobs).masked_scatter(padded.sampled, values)
