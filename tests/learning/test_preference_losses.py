"""The losses of reward models: values by hand, what they ignore, and where they lead."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from longjing.learning.reward_modeling import pairwise_loss, pointwise_loss

scores = st.floats(-30, 30)
pairs = st.lists(st.tuples(scores, scores), min_size=1, max_size=6)


def columns(rows: list[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    first, second = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    return first, second


def test_values_by_hand() -> None:
    chosen, rejected = columns([(0.0, 0.0), (2.0, 1.0), (1.0, 2.0)])
    expected = [math.log(2), math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))]
    assert pairwise_loss(chosen, rejected).tolist() == pytest.approx(expected)
    centred = pairwise_loss(chosen, rejected, 0.1)
    assert centred.tolist() == pytest.approx([expected[0], expected[1] + 0.9, expected[2] + 0.9])
    labels = torch.tensor([True, False, True])
    loss = pointwise_loss(torch.tensor([0.0, 3.0, 3.0]), labels)
    assert loss.tolist() == pytest.approx([math.log(2), math.log(1 + math.exp(3)), math.log(1 + math.exp(-3))])


@given(pairs, scores)
def test_a_pair_says_nothing_about_where_scores_lie_until_it_is_centred(
    rows: list[tuple[float, float]], shift: float
) -> None:
    chosen, rejected = columns(rows)
    torch.testing.assert_close(pairwise_loss(chosen + shift, rejected + shift), pairwise_loss(chosen, rejected))
    middle = (chosen + rejected) / 2
    centred = pairwise_loss(chosen - middle, rejected - middle, 0.1)
    assert (centred <= pairwise_loss(chosen, rejected, 0.1) + 1e-9).all()


@given(pairs)
def test_a_pair_is_a_labelled_difference(rows: list[tuple[float, float]]) -> None:
    """Bradley and Terry's loss is the cross-entropy of the lead, and both speak of the same probability."""
    chosen, rejected = columns(rows)
    lead = chosen - rejected
    torch.testing.assert_close(pairwise_loss(chosen, rejected), pointwise_loss(lead, torch.ones_like(lead)))
    torch.testing.assert_close(pairwise_loss(rejected, chosen), pointwise_loss(lead, torch.zeros_like(lead)))
    both = (-pairwise_loss(chosen, rejected)).exp() + (-pairwise_loss(rejected, chosen)).exp()
    torch.testing.assert_close(both, torch.ones_like(both))


@given(pairs)
def test_the_gradient_pushes_a_pair_apart_and_the_doubtful_one_most(rows: list[tuple[float, float]]) -> None:
    chosen, rejected = (column.requires_grad_() for column in columns(rows))
    pairwise_loss(chosen, rejected).sum().backward()
    assert chosen.grad is not None and rejected.grad is not None
    torch.testing.assert_close(chosen.grad, torch.sigmoid(chosen - rejected).detach() - 1)
    torch.testing.assert_close(chosen.grad, -rejected.grad)


def test_the_greatest_scores_give_finite_losses_and_gradients() -> None:
    far = torch.tensor([1e6, -1e6], requires_grad=True)
    loss = pairwise_loss(far, -far).sum() + pointwise_loss(far, torch.tensor([0, 1])).sum()
    loss.backward()
    assert loss.isfinite() and far.grad is not None and far.grad.isfinite().all()
