"""Advantages: how much better a completion is than the others of its group."""

from typing import Literal

import torch
from torch import Tensor

Scale = Literal["none", "group_std"]

# Keeps rewards that differ by rounding only from becoming advantages of +-1.
EPSILON = 1e-6


def advantages(rewards: Tensor, scale: Scale = "none", valid: Tensor | None = None) -> Tensor:
    """Reward minus the group's mean, `[groups, group_size]`, as `rewards` (floating point).

    `valid` (bool, same shape) marks the judged samples: the others take no part in the mean and get 0. A
    group without reward variance gets exactly 0 throughout.

    `scale="group_std"` also divides by the group's standard deviation (that of a sample: n - 1), as GRPO was
    published (DeepSeekMath, arXiv 2402.03300, section 4.1.2). That gives a problem solved nearly always or
    nearly never more weight than the others (Dr. GRPO, arXiv 2503.20783, section 3.1).
    """
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    count = valid.sum(dim=1, keepdim=True)
    mean = rewards.masked_fill(~valid, 0).sum(dim=1, keepdim=True) / count.clamp(min=1)
    centred = (rewards - mean).masked_fill(~(valid & has_reward_variance(rewards, valid)[:, None]), 0)
    if scale == "none":
        return centred
    deviation = (centred.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return centred / (deviation + EPSILON)


def has_reward_variance(rewards: Tensor, valid: Tensor | None = None) -> Tensor:
    """Whether the judged rewards of a group differ: bool `[groups]`, of `rewards` `[groups, group_size]`. Where they
    don't, every advantage is 0: drop the group before tokens are counted."""
    valid = torch.ones_like(rewards, dtype=torch.bool) if valid is None else valid
    best = rewards.masked_fill(~valid, -torch.inf).amax(dim=1)
    worst = rewards.masked_fill(~valid, torch.inf).amin(dim=1)
    return best > worst
