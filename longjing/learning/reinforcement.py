"""Reinforcement learning from verifiable rewards: GRPO as R1-Zero uses it.

One step: sample a group of completions for each problem, judge them, compare each with its group, and move
the policy (DeepSeek-R1, arXiv 2501.12948, section 2.2; the objective in `objectives.py`). The settings bear
the paper's names. What deviates from it: the log-probabilities of the sampling policy are the engine's own,
which equal the trainer's (the difference is measured at every step), and mixture layers replay the experts
that the engine took, without which a difference in rounding could flip an expert.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from longjing import tasks
from longjing.engine.engine import Engine
from longjing.evaluation import evaluate
from longjing.learning.advantages import Scale, advantages, has_signal
from longjing.learning.objectives import (
    PRESETS,
    Aggregation,
    Kind,
    PolicyBatch,
    Preset,
    Statistics,
    policy_loss,
    token_logprobs,
    token_weights,
)  # fmt: skip
from longjing.learning.optimizers import adamw, clip_gradients, muon
from longjing.learning.rollouts import (
    Group,
    Padded,
    by_length,
    draw_problems,
    judge_group,
    pad,
    reflections,
    sample_groups,
)  # fmt: skip
from longjing.learning.state import copy_weights, disk_bytes, gather, restore, weights
from longjing.model.decoder import Decoder
from longjing.model.files import load_model, resolve, save_model
from longjing.planning import flops
from longjing.runs import StageDirectory
from longjing.tasks.base import Split, Task
from longjing.text.tokenizer import Tokenizer


class TaskSettings(BaseModel):
    """A task by name; everything else is a setting of the task itself."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def make(self) -> Task:
        """The task. Raises UserError for what it can't honour."""
        return tasks.get(self.name, **(self.model_extra or {}))


class EvaluationSettings(BaseModel):
    """How the policy is measured: on the test split before and after, on the validation split in between."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: int = Field(0, ge=0, description="steps between measurements on the validation split; 0 for none")
    problems: int = Field(200, ge=1)
    samples: int = Field(4, ge=1)


class ReinforcementSettings(BaseModel):
    """The settings of a reinforcement stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["reinforce"] = "reinforce"
    model: str = Field("base", description="the model to start from: a shipped name, a directory, or a run")
    task: TaskSettings
    steps: int = Field(ge=1)
    prompts_per_step: int = Field(32, ge=1)
    group_size: int = Field(16, ge=2)
    minibatches: int = Field(1, ge=1, description="optimiser steps that one step's rollouts are cut into")
    refills: int = Field(0, ge=0, description="times that groups without a signal are replaced by new ones")
    max_tokens: int = Field(ge=1, description="longest completion")
    temperature: float = Field(1.0, gt=0)
    algorithm: Literal["grpo", "dr_grpo", "dapo", "cispo", "gspo"] = Field(
        "grpo", description="sets whatever of the next six isn't given"
    )
    surrogate: Kind | None = None
    clip_low: float | None = Field(None, ge=0)
    clip_high: float | None = Field(None, ge=0)
    kl: float | None = Field(None, ge=0, description="weight of the divergence from the reference policy")
    aggregation: Aggregation | None = None
    advantage_scale: Scale | None = None
    reference_every: int = Field(400, ge=1, description="steps after which the policy becomes the reference")
    rewards: dict[str, float] = Field(
        {"accuracy": 1.0, "format": 1.0}, description="weights of the reward parts"
    )
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = Field(3e-6, gt=0, description="Muon's, if that is the optimiser")
    adamw_learning_rate: float = Field(1e-4, gt=0, description="beside Muon, for what isn't a hidden matrix")
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    micro_tokens: int = Field(8192, ge=1, description="tokens of a microbatch, padding included")
    max_batch: int = Field(256, ge=1, description="completions that the engine works on at once")
    cache_megabytes: int = Field(1024, ge=1, description="memory of the engine's cache")
    evaluation: EvaluationSettings = Field(default_factory=lambda: EvaluationSettings.model_validate({}))
    save_every: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> "ReinforcementSettings":
        if self.prompts_per_step % self.minibatches:
            raise ValueError(
                f"minibatches {self.minibatches} does not divide prompts_per_step {self.prompts_per_step}"
            )
        if unknown := self.rewards.keys() - {"accuracy", "format"}:
            raise ValueError(f"rewards has no part {min(unknown)!r}; the parts are accuracy and format")
        if not any(self.rewards.values()):
            raise ValueError(
                "the rewards weigh nothing: every reward would be 0, and nothing would be learned"
            )
        self.task.make()
        return self

    def preset(self) -> Preset:
        """The algorithm's preset with the settings that were given in its place."""
        base = PRESETS[self.algorithm]
        given: dict[str, Any] = {
            "kind": self.surrogate, "clip_low": self.clip_low, "clip_high": self.clip_high, "kl": self.kl,
        }  # fmt: skip
        objective = replace(
            base.objective, **{name: value for name, value in given.items() if value is not None}
        )
        return Preset(
            objective, self.aggregation or base.aggregation, self.advantage_scale or base.advantage_scale
        )


class Clock:
    """Seconds spent in each phase of a step."""

    def __init__(self) -> None:
        self.seconds = {"sampling": 0.0, "judging": 0.0, "updating": 0.0}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - began


class Reinforcement:
    """A policy, its reference, and the machinery that moves the one and keeps the other."""

    def __init__(
        self, settings: ReinforcementSettings, seed: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.settings, self.seed, self.device, self.dtype = settings, seed, device, dtype
        self.task, self.preset = settings.task.make(), settings.preset()
        path = resolve(settings.model)
        self.tokenizer = Tokenizer.from_directory(path)
        self.model = load_model(path, device)
        self.reference = copy.deepcopy(self.model) if self.preset.objective.kl else None
        if settings.optimizer == "muon":
            self.optimizers = muon(
                self.model, settings.learning_rate, settings.adamw_learning_rate, settings.weight_decay
            )
        else:
            self.optimizers = adamw(self.model, settings.learning_rate, settings.weight_decay)
        self.engine = Engine(
            self.model,
            self.tokenizer,
            cache_bytes=settings.cache_megabytes * 2**20,
            max_batch=settings.max_batch,
            record_routes=True,
            dtype=dtype,
        )

    def step(self, step: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """One step: its metrics, and its rollouts for the log."""
        clock = Clock()
        groups, refills = self._collect(step, clock)
        rewards = torch.tensor([group.rewards(self.settings.rewards) for group in groups])
        judged = torch.tensor([group.judged for group in groups])
        gains = advantages(rewards, self.preset.advantage_scale, judged)
        with clock.phase("updating"):
            statistics, grad_norm, trained = self._update(step, groups, gains, judged)
        metrics = self._metrics(groups, rewards, judged, statistics, clock)
        metrics |= {"step": step, "refills": refills, "grad_norm": grad_norm, "tokens_trained": trained}
        metrics["learning_rate"] = self.settings.learning_rate * self._rate_factor(step)
        metrics["tokens_per_second_updating"] = trained / max(1e-9, clock.seconds["updating"])
        metrics["flops"] = self._flops(groups, trained)
        if self.reference is not None and (step + 1) % self.settings.reference_every == 0:
            copy_weights(weights(self.model), self.reference)
        return metrics, [self._record(step, *row) for row in zip(groups, rewards, gains, strict=True)]

    def _collect(self, step: int, clock: Clock) -> tuple[list[Group], int]:
        """The step's groups, those without a signal replaced as often as the settings allow."""
        settings, refills = self.settings, 0
        groups: list[Group] = []
        sampling = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        for turn in range(settings.refills + 1):
            missing = settings.prompts_per_step - sum(self._teaches(group) for group in groups)
            if not missing:
                break
            problems = draw_problems(self.task, missing, self.seed, step, turn)
            with clock.phase("sampling"):
                sampled = sample_groups(
                    self.engine,
                    self.tokenizer,
                    problems,
                    settings.group_size,
                    sampling,
                    self.seed,
                    step,
                    turn,
                )
            with clock.phase("judging"):
                groups += [judge_group(self.task, self.tokenizer, *pair) for pair in sampled]
            refills = len(groups) - settings.prompts_per_step
        return groups, refills

    def _teaches(self, group: Group) -> bool:
        rewards = torch.tensor([group.rewards(self.settings.rewards)])
        return bool(has_signal(rewards, torch.tensor([group.judged])))

    def _update(
        self, step: int, groups: list[Group], gains: Tensor, judged: Tensor
    ) -> tuple[Statistics | None, float, int]:
        """Optimiser steps over the groups that teach, in minibatches of whole groups."""
        teaching = [place for place in range(len(groups)) if gains[place].any()]
        parts = [teaching[number :: self.settings.minibatches] for number in range(self.settings.minibatches)]
        total, first, norms, trained = None, None, [], 0
        for part in filter(None, parts):
            statistics, norm, tokens = self._optimise(step, part, groups, gains, judged)
            first = first or statistics
            total = statistics if total is None else total + statistics
            norms.append(norm)
            trained += tokens
        self.engine.refresh()
        if total is not None and first is not None:
            # The law speaks of the policy that sampled: before the first optimiser step.
            total = replace(total, loss=total.loss / len(norms), logprob_difference=first.logprob_difference)
        return total, max(norms, default=0.0), trained

    def _optimise(
        self, step: int, part: list[int], groups: list[Group], gains: Tensor, judged: Tensor
    ) -> tuple[Statistics, float, int]:
        """One optimiser step on some groups: the loss has one denominator over all its microbatches."""
        rows = [
            (generation, float(gain))
            for place in part
            for generation, gain, valid in zip(
                groups[place].generations, gains[place], judged[place], strict=True
            )
            if valid
        ]
        generations = [generation for generation, _ in rows]
        counts = torch.tensor([len(generation.tokens) for generation in generations])
        mask = torch.arange(int(counts.max())) < counts[:, None]
        per_token = token_weights(mask, self.preset.aggregation, self.settings.max_tokens)[:, 0]
        statistics = None
        for batch in by_length(generations, self.settings.micro_tokens):
            padded = pad([generations[row] for row in batch], self.tokenizer.pad_id, self.device)
            gain = torch.tensor([rows[row][1] for row in batch], device=self.device)[:, None]
            weight = per_token[batch].to(self.device)[:, None]
            loss = policy_loss(
                PolicyBatch(
                    logprobs=self._logprobs(self.model, padded),
                    old_logprobs=padded.old_logprobs,
                    advantages=gain,
                    mask=padded.sampled,
                    weights=weight,
                    reference_logprobs=self._reference_logprobs(padded),
                ),
                self.preset.objective,
            )
            torch.autograd.backward(loss.loss)
            statistics = loss.statistics if statistics is None else statistics + loss.statistics
        assert statistics is not None
        norm = clip_gradients(self.model, self.settings.max_grad_norm)
        self.optimizers.step(self._rate_factor(step))
        return statistics, norm, sum(len(g.prompt) + len(g.tokens) for g in generations)

    def _logprobs(self, model: Decoder, padded: Padded) -> Tensor:
        """Log-probability of each next token `[batch, length - 1]`, zero where the policy sampled none."""
        positions = torch.arange(padded.tokens.shape[1], device=self.device).expand_as(padded.tokens)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            hidden = model.hidden(padded.tokens, model.context(positions, replay=padded.routes, exact=True))
            logits = model.head(hidden[:, :-1][padded.sampled])
        found = token_logprobs(logits, padded.tokens[:, 1:][padded.sampled], self.settings.temperature)
        return torch.zeros_like(padded.old_logprobs).masked_scatter(padded.sampled, found)

    @torch.no_grad()
    def _reference_logprobs(self, padded: Padded) -> Tensor | None:
        """The reference takes its own experts: it is another policy, not another rounding of this one."""
        return (
            None if self.reference is None else self._logprobs(self.reference, replace(padded, routes=None))
        )

    def _rate_factor(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.settings.warmup_steps + 1))

    def _flops(self, groups: list[Group], trained: int) -> float:
        """Sampling every group, and training (with the reference's forward pass) on `trained` tokens."""
        config = self.model.config
        lengths = [[len(generation.tokens) for generation in group.generations] for group in groups]
        prompts = [len(group.generations[0].prompt) for group in groups]
        sampling = sum(flops.generation(config, *group) for group in zip(prompts, lengths, strict=True))
        mean = sum(prompts) / len(prompts) + sum(map(sum, lengths)) / sum(map(len, lengths))
        passes = 1.0 if self.reference is None else 4 / 3
        return sampling + passes * trained * flops.training(config, mean)

    def _metrics(
        self,
        groups: list[Group],
        rewards: Tensor,
        judged: Tensor,
        statistics: Statistics | None,
        clock: Clock,
    ) -> dict[str, Any]:
        generations = [generation for group in groups for generation in group.generations]
        completions = [completion for group in groups for completion in group.completions]
        verdicts = [v for group in groups for v in group.verdicts if v.outcome != "unjudged"]
        lengths = [len(generation.tokens) for generation in generations]
        logprobs = [value for generation in generations for value in generation.logprobs]
        counted = max(1, len(verdicts))
        parts = {
            f"reward_{part}": sum(verdict.rewards[part] for verdict in verdicts) / counted
            for part in self.settings.rewards
        }
        reasoning = [len(self.tokenizer.encode(completion.reasoning)) for completion in completions]
        sampled = sum(lengths)
        return {
            "reward": float(rewards[judged].mean()) if judged.any() else 0.0,
            **parts,
            "accuracy": sum(verdict.outcome == "correct" for verdict in verdicts) / counted,
            "length_mean": sampled / len(lengths),
            "length_max": max(lengths),
            "reasoning_length_mean": sum(reasoning) / len(reasoning),
            "truncated": sum(completion.truncated for completion in completions) / len(completions),
            "groups_without_signal": sum(not self._teaches(group) for group in groups) / len(groups),
            "groups_all_wrong": sum(all(v.outcome == "wrong" for v in g.verdicts) for g in groups)
            / len(groups),
            "unjudged": int((~judged).sum()),
            # The mean of -log p over what was sampled from p is an unbiased estimate of its entropy.
            "entropy": -sum(logprobs) / max(1, len(logprobs)),
            "reflection": sum(reflections(g.text) for g in generations) / len(generations),
            **(statistics.means() if statistics else {}),
            **{f"seconds_{name}": seconds for name, seconds in clock.seconds.items()},
            "tokens_sampled": sampled,
            "tokens_per_second_sampling": sampled / max(1e-9, clock.seconds["sampling"]),
        }

    def _record(self, step: int, group: Group, rewards: Tensor, gains: Tensor) -> dict[str, Any]:
        completions = [
            {
                "text": generation.text,
                "tokens": generation.tokens,
                "logprobs": [round(value, 4) for value in generation.logprobs],
                "rewards": verdict.rewards,
                "reward": float(reward),
                "advantage": float(gain),
                "outcome": verdict.outcome,
                "finish_reason": generation.finish_reason,
            }
            for generation, verdict, reward, gain in zip(
                group.generations, group.verdicts, rewards, gains, strict=True
            )
        ]
        problem = group.problem
        return {
            "step": step, "problem": problem.id, "prompt": problem.prompt, "language": problem.language,
            "answer": problem.answer, "completions": completions,
        }  # fmt: skip

    def evaluate(self, step: int, split: Split) -> dict[str, Any]:
        """Held-out accuracy of the policy as it is, as a line for the log."""
        settings = self.settings
        evaluation = evaluate(
            self.engine, self.tokenizer, self.task, split=split, problems=settings.evaluation.problems,
            samples=settings.evaluation.samples, seed=self.seed, temperature=settings.temperature,
            max_tokens=settings.max_tokens, flops=partial(flops.generation, self.model.config),
        )  # fmt: skip
        return {"step": step, **evaluation.summary(), "examples": evaluation.examples(24)}


def reinforce(
    settings: ReinforcementSettings,
    stage: StageDirectory,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Run the stage to its end, from wherever it stands.

    Raises UserError if the disk is too small or learning diverges.
    """
    saved = stage.load_state()
    learner = Reinforcement(settings, seed, device, dtype)
    stage.run.reserve(disk_bytes(learner.model, learner.reference))
    totals: dict[str, Any] = {"step": -1, "time": 0.0, "tokens_sampled": 0, "tokens_trained": 0, "flops": 0.0}
    if saved is None:
        stage.status("measuring the model on the test problems, before")
        stage.evaluations.append(learner.evaluate(-1, "test"))
    else:
        tensors, totals = saved
        restore(tensors, learner.model, learner.optimizers, learner.reference)
        learner.engine.refresh()
    for step in range(totals["step"] + 1, settings.steps):
        began = time.perf_counter()
        metrics, rollouts = learner.step(step)
        totals["step"] = step
        totals["time"] += time.perf_counter() - began
        for name in ("tokens_sampled", "tokens_trained", "flops"):
            totals[name] += metrics[name]
        stage.metrics.append(metrics | {"time": totals["time"]})
        for rollout in rollouts:
            stage.rollouts.append(rollout)
        # Before the state is saved: what was measured isn't measured again if the stage is resumed.
        every, last = settings.evaluation.every, step + 1 == settings.steps
        if last:
            stage.status("measuring the model on the test problems, after")
            stage.evaluations.append(learner.evaluate(step, "test"))
        elif every and (step + 1) % every == 0:
            stage.status("measuring on the validation problems")
            stage.evaluations.append(learner.evaluate(step, "validation"))
        if last or (step + 1) % settings.save_every == 0:
            stage.save_state(step, gather(learner.model, learner.optimizers, learner.reference), totals)
    with stage.model_directory() as directory:
        save_model(learner.model, directory)
        learner.tokenizer.save(directory)
    stage.finish(totals)
