"""How hard a task is for a model: whether reinforcement would have something to learn from."""

from dataclasses import dataclass

import torch

from longjing.evaluation.instructions import hint
from longjing.generation.generator import Generator
from longjing.learning.advantages import has_reward_variance
from longjing.learning.rollouts import draw_problems, judge_group, sample_groups
from longjing.problems import Task, boxed
from longjing.tasks.linter import Finding, Status
from longjing.text.tokenizer import Tokenizer

_FEW = 0.2  # share of groups with a signal, below which most of what is sampled would be for nothing


@dataclass(frozen=True)
class Difficulty:
    """Shares, of `groups` problems with `group_size` samples each: of samples that are correct, were cut off, or got no
    verdict; and of groups some of whose samples are correct and others wrong, so that they teach something (`signal`),
    or that differ in their rewards only otherwise (`form`): in format, or in partial pay. `advice`: on the form."""

    groups: int
    group_size: int
    correct: float
    truncated: float
    unjudged: float
    signal: float
    form: float = 0.0
    advice: str | None = None

    def finding(self, model: str) -> Finding:
        """What that means for a run that begins with this model."""
        share = f"{self.signal:.0%} of {self.groups} groups of {self.group_size} have a signal"
        cut = f"{self.truncated:.0%} of samples are cut off"
        says = f"{model} solves {self.correct:.1%} at temperature 1; {share}; {cut}"
        if self.form:
            says += (
                f"; another {self.form:.0%} differ in format or partial pay alone, which teaches the model to "
                "solve nothing"
            )
        if self.advice:
            says += f"; {self.advice}"
        if self.unjudged:
            says += f"; {self.unjudged:.0%} got no verdict"
        if self.signal >= _FEW:
            return Finding("difficulty", "ok", says)
        if self.unjudged > 0.5:
            advice = "most got no verdict: mend the verifier first"
        elif self.correct < 0.5:
            advice = "too hard: take easier problems, larger groups, a better model, or fine-tune on examples first"
        else:
            advice = "too easy: take harder problems"
        status: Status = "warning" if self.signal else "failed"
        return Finding(
            "difficulty", status, f"{says}; {advice}" + (" (or more tokens)" if self.truncated > 0.5 else "")
        )


def measure(
    generator: Generator, tokenizer: Tokenizer, task: Task, groups: int, group_size: int, max_tokens: int, seed: int,
    told: str | None = None,
) -> Difficulty:  # fmt: skip
    """Sample groups of training problems at temperature 1, as reinforcement would. `told`: its `instruction`."""
    drawn = [(task, problem) for problem in draw_problems(task, groups, seed, 0, 0)]
    sampling = {"temperature": 1.0, "max_tokens": max_tokens}
    sampled = sample_groups(generator, tokenizer, drawn, group_size, sampling, seed, 0, 0, told, tags=True)
    judged_groups = [judge_group(*pair, group) for pair, group in zip(drawn, sampled, strict=True)]
    judged = torch.tensor([group.judged for group in judged_groups])
    outcomes = [[verdict.outcome for verdict in group.verdicts] for group in judged_groups]
    correct = torch.tensor([[float(outcome == "correct") for outcome in row] for row in outcomes])
    truncated = torch.tensor([[float(each.truncated) for each in group.completions] for group in judged_groups])
    rewards = torch.tensor([group.rewards({"accuracy": 1.0, "format": 1.0}) for group in judged_groups])
    signal = has_reward_variance(correct, judged)
    form = has_reward_variance(rewards, judged) & ~signal
    names = {"correct": correct, "truncated": truncated, "unjudged": ~judged, "signal": signal, "form": form}
    shares = {name: float(each.double().mean()) for name, each in names.items()}
    answers = [completion for group in judged_groups for completion in group.completions if not completion.truncated]
    unboxed = sum(boxed(completion.answer) is None for completion in answers) / max(1, len(answers))
    return Difficulty(groups, group_size, **shares, advice=hint(task, drawn[0][1], unboxed))
