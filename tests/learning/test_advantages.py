"""Advantages: means over the judged samples only, and exactly nothing where a group teaches nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longjing.learning.advantages import Scale, advantages, has_reward_variance

SCALES: list[Scale] = ["none", "group_std"]
reward = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 1.1, 2.0, -0.5])


@st.composite
def judged_groups(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Rewards and which of them are judged, both `[groups, group_size]`."""
    size = draw(st.integers(1, 8))
    row = st.lists(st.tuples(reward, st.sampled_from([True, True, True, False])), min_size=size, max_size=size)
    rows = draw(st.lists(row, min_size=1, max_size=4))
    return (
        torch.tensor([[value for value, _ in row] for row in rows]),
        torch.tensor([[valid for _, valid in row] for row in rows]),
    )


def test_by_hand() -> None:
    rewards = torch.tensor([[2.0, 0.0, 0.0, 2.0], [1.0, 0.0, 0.0, 0.0]])
    assert advantages(rewards).tolist() == [[1, -1, -1, 1], [0.75, -0.25, -0.25, -0.25]]
    # Deviations of a sample: sqrt(4 / 3) and sqrt((0.75^2 + 3 * 0.25^2) / 3) = 0.5.
    expected = torch.tensor([[0.866025, -0.866025, -0.866025, 0.866025], [1.5, -0.5, -0.5, -0.5]])
    torch.testing.assert_close(advantages(rewards, "group_std"), expected, rtol=0, atol=1e-5)


def test_the_unjudged_are_excluded_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0, float("nan"), float("inf")]])
    valid = torch.tensor([[True, True, False, False]])
    assert advantages(rewards, valid=valid).tolist() == [[0.5, -0.5, 0, 0]]


@pytest.mark.parametrize("scale", SCALES)
@given(judged_groups())
def test_judged_samples_get_what_they_would_get_alone(scale: Scale, case: tuple[Tensor, Tensor]) -> None:
    rewards, valid = case
    result = advantages(rewards, scale, valid)
    assert (result[~valid] == 0).all()
    for got, row, kept in zip(result, rewards, valid, strict=True):
        if kept.any():
            torch.testing.assert_close(got[kept], advantages(row[kept][None], scale)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@given(judged_groups())
def test_advantages_sum_to_zero_and_keep_the_order(scale: Scale, case: tuple[Tensor, Tensor]) -> None:
    rewards, valid = case
    result = advantages(rewards, scale, valid)
    torch.testing.assert_close(result.sum(dim=1), torch.zeros(len(rewards)), rtol=0, atol=1e-5)
    for got, row, kept in zip(result, rewards, valid, strict=True):
        better = (row[:, None] > row) & kept & kept[:, None]
        assert ((got[:, None] > got) | ~better).all()


@given(judged_groups())
def test_scaled_advantages_have_unit_deviation(case: tuple[Tensor, Tensor]) -> None:
    rewards, valid = case
    result = advantages(rewards, "group_std", valid)
    for got, kept, signal in zip(result, valid, has_reward_variance(rewards, valid), strict=True):
        if signal:
            assert got[kept].std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("scale", SCALES)
@given(reward, st.integers(1, 40), st.lists(st.booleans(), min_size=1, max_size=40))
def test_equal_rewards_give_exactly_nothing(scale: Scale, value: float, size: int, judged: list[bool]) -> None:
    """The mean of equal numbers may be off by a rounding, which division by the deviation would blow up."""
    rewards = torch.full((1, size), value)
    assert not has_reward_variance(rewards)
    assert (advantages(rewards, scale) == 0).all()
    valid = torch.tensor([judged])
    hidden = torch.where(valid, value, torch.arange(float(valid.numel())))
    assert not has_reward_variance(hidden, valid)
    assert (advantages(hidden, scale, valid) == 0).all()


def test_rounding_is_no_signal_worth_scaling() -> None:
    rewards = torch.tensor([[0.1 + 0.2, 0.3, 0.3, 0.3]], dtype=torch.float64)
    assert has_reward_variance(rewards)
    assert advantages(rewards, "group_std").abs().max() < 1e-6


@given(judged_groups())
def test_a_signal_is_a_difference_among_the_judged(case: tuple[Tensor, Tensor]) -> None:
    rewards, valid = case
    expected = [len(set(row[kept].tolist())) > 1 for row, kept in zip(rewards, valid, strict=True)]
    assert has_reward_variance(rewards, valid).tolist() == expected
    assert (advantages(rewards, valid=valid) != 0).any(dim=1).tolist() == expected


def test_inputs_are_left_alone() -> None:
    rewards, valid = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[True, True, False]])
    advantages(rewards, "group_std", valid)
    assert rewards.tolist() == [[1, 0, 3]] and valid.tolist() == [[True, True, False]]
