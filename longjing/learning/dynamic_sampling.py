"""Dynamic sampling: groups of zero reward variance teach nothing, and make room for others (DAPO, arXiv 2503.14476,
section 3.2)."""

from collections.abc import Callable, Mapping

import torch

from longjing.learning.advantages import has_reward_variance
from longjing.learning.rollouts import Group


def collect_groups(
    wanted: int, rounds: int, sample: Callable[[int, int], list[Group]], weights: Mapping[str, float]
) -> list[Group]:
    """`wanted` groups and, for those of zero variance among them, others in up to `rounds` further rounds; all that
    were sampled. `sample(count, round)` gives so many judged groups, other ones in each round."""
    groups: list[Group] = []
    for number in range(rounds + 1):
        missing = wanted - sum(teaches(group, weights) for group in groups)
        if not missing:
            break
        groups += sample(missing, number)
    return groups


def teaches(group: Group, weights: Mapping[str, float]) -> bool:
    """Whether the group's judged rewards differ."""
    rewards = torch.tensor([group.rewards(weights)])
    return bool(has_reward_variance(rewards, torch.tensor([group.judged])))
