"""Made-up rows of a run's logs, healthy unless told otherwise."""

import math
from pathlib import Path
from typing import Any

from longjing.runs import RunDirectory

Row = dict[str, Any]
RECIPE: Row = {
    "name": "small", "description": "", "seed": 0, "device": "cpu", "dtype": "float32", "threads": 1,
    "stages": [
        {"kind": "pretrain", "name": "read", "steps": 30},
        {"kind": "reinforce", "name": "zero", "steps": 60, "model": "read", "task": {"name": "countdown"}},
    ],
}  # fmt: skip


def pretraining_row(step: int, **changes: Any) -> Row:
    return {
        "step": step, "time": 0.5 * (step + 1), "tokens": 100 * (step + 1), "flops": 1e9 * (step + 1),
        "loss": 2 + math.exp(-step / 9), "mtp_loss": 3.0, "balance_loss": 1.0,
        "grad_norm": 0.5 + step % 3 / 9, "learning_rate": 0.01, "tokens_per_second": 200.0, "load_max": 1.5,
    } | changes  # fmt: skip


def reinforcement_row(step: int, **changes: Any) -> Row:
    accuracy = 0.2 + 0.005 * step + 0.02 * (step % 2)
    return {
        "step": step, "time": 2.0 * (step + 1), "reward": accuracy + 0.9, "reward_accuracy": accuracy,
        "reward_format": 0.9, "accuracy": accuracy, "length_mean": 80.0 + step, "length_max": 200,
        "truncated": 0.05, "zero_variance_groups": 0.2, "all_wrong_groups": 0.1, "resampled_groups": 0, "unjudged": 0,
        "entropy": 0.5, "kl": 0.01, "clip_share": 0.01, "ratio": 1.0, "loss": 0.0,
        "grad_norm": 0.5 + step % 3 / 9, "logprob_difference": 2e-6, "learning_rate": 1e-4,
        "seconds_sampling": 1.0, "seconds_judging": 0.1,
        "seconds_updating": 0.9, "tokens_sampled": 1000, "tokens_trained": 900,
        "tokens_per_second_sampling": 1000.0, "tokens_per_second_updating": 1000.0,
        "reflection": 0.3, "flops": 1e9,
    } | changes  # fmt: skip


def curation_row(step: int, **changes: Any) -> Row:
    return {
        "step": step, "time": 2.0 * (step + 1), "problems": 8, "solved": 6, "sampled": 32, "kept": 12, "others": 2,
        "rejected_wrong": 15, "rejected_truncated": 5, "rejected_long": 0, "accuracy": 0.5, "length_mean": 90.0,
        "tokens_sampled": 2880, "tokens_trained": 0, "tokens_kept": 1000, "flops": 1e9,
        "tokens_per_second_sampling": 1000.0,
    } | changes  # fmt: skip


def demonstration_row(step: int, **changes: Any) -> Row:
    return {
        "step": step, "time": 0.1 * (step + 1), "problems": 64, "kept": 60, "others": 5,
        "tokens_sampled": 0, "tokens_trained": 0, "flops": 0.0,
    } | changes  # fmt: skip


def preference_row(step: int, **changes: Any) -> Row:
    return {
        "step": step, "steps": 120, "time": 0.5 * (step + 1), "tokens": 100 * (step + 1), "flops": 1e9 * (step + 1),
        "epoch": step / 60, "loss": 0.3 + math.exp(-step / 9), "accuracy": 0.9, "margin": 1.0,
        "grad_norm": 0.5 + step % 3 / 9, "learning_rate": 1e-4, "tokens_per_second": 200.0,
    } | changes  # fmt: skip


def finetuning_row(step: int, **changes: Any) -> Row:
    return pretraining_row(step, steps=120, epoch=step / 60, loss_mask_share=0.7) | changes


def distillation_row(step: int, **changes: Any) -> Row:
    row = reinforcement_row(step, kl=1.0 / (step + 1))
    return {key: row[key] for key in row if "reward" not in key and not key.endswith("_groups")} | changes


def evaluation_row(step: int, split: str, accuracy: float | None, text: str = "So.\n</think>\n\n\\boxed{1}") -> Row:
    return {
        "step": step, "task": "countdown", "split": split, "problems": 50, "samples": 2,
        "pass_at_1": accuracy, "low": accuracy and accuracy - 0.1, "high": accuracy and accuracy + 0.1,
        "maj_at_k": accuracy,
        "pass_at_k": {"1": accuracy}, "length_mean": 90.0, "truncated": 0.1, "tokens": 500, "flops": None,
        "seconds": 3.0, "examples": [{"problem": "p", "prompt": "Make 1.", "text": text, "outcome": "wrong"}],
    }  # fmt: skip


def write_run(path: Path, steps: int = 60, text: str = "So.\n</think>\n\n\\boxed{1}") -> RunDirectory:
    """A run of RECIPE whose second stage has taken so many steps."""
    run = RunDirectory(path)
    with run.writing(RECIPE):
        read, zero = run.stage("read"), run.stage("zero")
        read.load_state()
        for step in range(30):
            read.metrics.append(pretraining_row(step))
        read.finish({})
        zero.load_state()
        zero.evaluations.append(evaluation_row(-1, "test", 0.2, text))
        for step in range(steps):
            zero.metrics.append(reinforcement_row(step))
            completions = [
                {"text": text, "reward": 1.0, "advantage": 0.5, "outcome": "correct", "finish_reason": "stop"},
                {"text": text, "reward": 0.0, "advantage": -0.5, "outcome": "wrong", "finish_reason": "length"},
            ]
            zero.rollouts.append({"step": step, "problem": "q", "prompt": text, "completions": completions})
        if steps == 60:
            zero.evaluations.append(evaluation_row(59, "test", 0.5, text))
            zero.finish({})
    return run
