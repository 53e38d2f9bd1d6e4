"""Objectives: values by hand, gradients by finite differences, and the ways in which GRPO goes wrong."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from longjing.errors import UserError
from longjing.learning.advantages import advantages
from longjing.learning.kl import k3
from longjing.learning.logprobs import token_logprobs
from longjing.learning.objectives import Aggregation, PolicyStatistics, policy_loss, token_weights
from longjing.learning.policy_batch import PolicyBatch, cleared
from longjing.learning.presets import PRESETS
from longjing.learning.surrogates import SURROGATES, Kind, Objective

KINDS: list[Kind] = list(SURROGATES)
AGGREGATIONS: list[Aggregation] = ["tokens", "sequences", "constant"]
MAX_TOKENS = 7


def make_batch(
    seed: int, rows: int = 4, length: int = MAX_TOKENS, aggregation: Aggregation = "sequences", spread: float = 0.4
) -> PolicyBatch:
    """Random completions in float64, of lengths from 1 to `length`, off policy by `spread` nats a token."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=random)
    mask = torch.arange(length) < lengths
    shape = (rows, length)
    old = -torch.rand(shape, generator=random, dtype=torch.float64) * 3 - 0.1
    return PolicyBatch(
        logprobs=old + spread * torch.randn(shape, generator=random, dtype=torch.float64),
        old_logprobs=old,
        advantages=torch.randn((rows, 1), generator=random, dtype=torch.float64),
        mask=mask,
        weights=token_weights(mask, aggregation, MAX_TOKENS),
        reference_logprobs=old + spread * torch.randn(shape, generator=random, dtype=torch.float64),
    )


def single(difference: float, advantage: float) -> PolicyBatch:
    """One completion of one token, whose ratio is exp(`difference`)."""
    one = torch.ones((1, 1), dtype=torch.float64)
    return PolicyBatch(difference - one, -one, advantage * one, one > 0, one)


def loss_and_gradient(batch: PolicyBatch, objective: Objective) -> tuple[Tensor, Tensor, PolicyStatistics]:
    logprobs = batch.logprobs.clone().requires_grad_()
    result = policy_loss(replace(batch, logprobs=logprobs), objective)
    (gradient,) = torch.autograd.grad(result.loss, logprobs)
    return result.loss.detach(), gradient, result.statistics


def rows_of(batch: PolicyBatch, rows: Tensor) -> PolicyBatch:
    return PolicyBatch(*(getattr(batch, field.name)[rows] for field in fields(batch)))


# Values and gradients


def test_grpo_by_hand() -> None:
    """Two completions, of two tokens and one; the formula written out."""
    mask = torch.tensor([[True, True], [True, False]])
    batch = PolicyBatch(
        logprobs=torch.tensor([[1.5, 0.9], [0.5, 1.0]]).log(),
        old_logprobs=torch.zeros(2, 2),
        advantages=torch.tensor([[1.0], [-2.0]]),
        mask=mask,
        weights=token_weights(mask, "sequences"),
        reference_logprobs=torch.tensor([[1.5, 1.8], [0.25, 1.0]]).log(),
    )
    # Ratios 1.5 (clipped to 1.2) and 0.9 with A = 1; 0.5 (clipped to 0.8) with A = -2: min(-1, -1.6) = -1.6.
    surrogate = ((1.2 + 0.9) / 2 - 1.6) / 2
    divergences = (0.0, 2 - math.log(2) - 1, 0.5 - math.log(0.5) - 1)
    divergence = ((divergences[0] + divergences[1]) / 2 + divergences[2]) / 2
    loss, gradient, statistics = loss_and_gradient(batch, Objective("grpo", 0.2, 0.2, kl=0.1))
    assert loss.item() == pytest.approx(-surrogate + 0.1 * divergence, abs=1e-6)
    # Of the surrogate only the unclipped token has a gradient, r A; that of k3 is 1 - q.
    expected = torch.tensor([[0.0, (-0.9 + 0.1 * (1 - 2)) / 4], [0.1 * (1 - 0.5) / 2, 0]])
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)
    assert statistics.means() == pytest.approx(
        {
            "loss": loss.item(),
            "kl": sum(divergences) / 3,
            "clip_share": 2 / 3,
            "ratio": (1.5 + 0.9 + 0.5) / 3,
            "logprob_difference": math.log(2),
            "logprob_difference_mean": sum(abs(math.log(ratio)) for ratio in (1.5, 0.9, 0.5)) / 3,
        },
        abs=1e-6,
    )


def test_gspo_by_hand() -> None:
    """Ratios 4 and 1 have the geometric mean 2: as GRPO, on one ratio, with gradient s A / length each."""
    mask = torch.tensor([[True, True, False]])
    batch = PolicyBatch(
        logprobs=torch.tensor([[4.0, 1.0, 9.0]]).log(),
        old_logprobs=torch.zeros(1, 3),
        advantages=torch.tensor([[3.0]]),
        mask=mask,
        weights=token_weights(mask, "sequences"),
    )
    loss, gradient, statistics = loss_and_gradient(batch, Objective("gspo", 0.5, 1.5))
    assert loss.item() == pytest.approx(-6, abs=1e-5)
    torch.testing.assert_close(gradient, torch.tensor([[-3.0, -3.0, 0.0]]))
    assert statistics.means()["clip_share"] == 0
    loss, gradient, statistics = loss_and_gradient(batch, Objective("gspo", 0.5, 0.5))
    assert loss.item() == pytest.approx(-4.5, abs=1e-5)
    assert (gradient == 0).all() and statistics.means()["clip_share"] == 1


def test_cispo_by_hand() -> None:
    """The ratio is a constant weight, limited to 5; the gradient is that of log pi times it."""
    for ratio, weight in ((2.0, 2.0), (6.0, 5.0), (0.01, 0.01)):
        batch = single(math.log(ratio), -0.5)
        loss, gradient, statistics = loss_and_gradient(batch, Objective("cispo", 1.0, 4.0))
        assert loss.item() == pytest.approx(0.5 * weight * (math.log(ratio) - 1))
        assert gradient.item() == pytest.approx(0.5 * weight)
        assert statistics.means()["clip_share"] == (ratio > 5)
    assert loss_and_gradient(single(math.log(0.5), 1.0), Objective("cispo", 0.2, 4.0))[1].item() == pytest.approx(-0.8)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_equals_finite_differences(kind: Kind, aggregation: Aggregation) -> None:
    """CISPO holds the limited ratio fixed: its differences are those of w A log pi with w fixed."""
    objective = Objective(kind, 0.05, 0.1, kl=0.7)
    for seed in range(3):
        batch = make_batch(seed, aggregation=aggregation)
        _, gradient, statistics = loss_and_gradient(batch, objective)
        assert 0 < statistics.means()["clip_share"] < 1
        fixed = (batch.logprobs - batch.old_logprobs).exp().clamp(0.95, 1.1)

        def value(logprobs: Tensor, batch: PolicyBatch = batch, fixed: Tensor = fixed) -> Tensor:
            if kind != "cispo":
                return policy_loss(replace(batch, logprobs=logprobs), objective).loss
            assert batch.reference_logprobs is not None
            per_token = 0.7 * k3(logprobs, batch.reference_logprobs) - fixed * batch.advantages * logprobs
            return (batch.weights * per_token).sum()

        step = 1e-6
        differences = torch.zeros_like(gradient)
        for index in range(gradient.numel()):
            nudge = torch.zeros(gradient.numel(), dtype=torch.float64)
            nudge[index] = step
            nudge = nudge.view_as(gradient)
            rise = value(batch.logprobs + nudge) - value(batch.logprobs - nudge)
            differences.view(-1)[index] = rise / (2 * step)
        torch.testing.assert_close(gradient, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_on_policy_gradient_is_the_policy_gradient(kind: Kind) -> None:
    """Where the policy is the old one, all kinds agree: weight times -A grad log pi."""
    batch = make_batch(0, spread=0.0)
    _, gradient, statistics = loss_and_gradient(batch, Objective(kind, 0.2, 0.2))
    torch.testing.assert_close(gradient, -batch.weights * batch.advantages, check_dtype=False)
    assert statistics.means()["clip_share"] == 0
    assert statistics.means()["ratio"] == pytest.approx(1)
    assert statistics.means()["logprob_difference"] == 0


# The clip


@pytest.mark.parametrize("kind", ["grpo", "gspo"])
@settings(max_examples=60)
@given(st.floats(-4, 4), st.sampled_from([-1.5, 0.5]), st.sampled_from([(0.2, 0.2), (0.2, 0.28), (10.0, 10.0)]))
def test_gradient_is_zero_exactly_where_the_clip_holds(
    kind: Kind, difference: float, advantage: float, clip: tuple[float, float]
) -> None:
    low, high = clip
    ratio = math.exp(difference)
    held = ratio > 1 + high if advantage > 0 else ratio < 1 - low
    _, gradient, statistics = loss_and_gradient(single(difference, advantage), Objective(kind, low, high))
    assert statistics.clipped.item() == held
    assert gradient.item() == (0 if held else pytest.approx(-ratio * advantage))


def test_clip_10_limits_only_what_has_grown_elevenfold() -> None:
    """R1's first RL stage: the low side is open, so what falls is never held."""
    objective = Objective("grpo", 10, 10)
    assert loss_and_gradient(single(math.log(10.9), 1.0), objective)[1].item() == pytest.approx(-10.9)
    assert loss_and_gradient(single(math.log(11.1), 1.0), objective)[1].item() == 0
    assert loss_and_gradient(single(-9.0, -1.0), objective)[1].item() == pytest.approx(math.exp(-9))


def test_clip_low_and_high_are_separate() -> None:
    objective = Objective("grpo", 0.1, 0.5)
    assert loss_and_gradient(single(math.log(1.4), 1.0), objective)[1].item() != 0
    assert loss_and_gradient(single(math.log(0.85), -1.0), objective)[1].item() == 0


def test_gspo_ratio_is_one_for_all_tokens_of_a_sequence() -> None:
    batch = make_batch(3)
    ratio = SURROGATES["gspo"](cleared(batch), Objective("gspo", 3e-4, 4e-4)).ratio
    assert (ratio == ratio[:, :1]).all() and len(ratio[:, 0].unique()) == len(ratio)
    difference = batch.logprobs - batch.old_logprobs
    for row, mask, got in zip(difference, batch.mask, ratio[:, 0], strict=True):
        assert got.item() == pytest.approx(row[mask].mean().exp().item())


# One denominator


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10)
@given(st.integers(0, 1000), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_microbatches_add_up_to_the_whole(kind: Kind, aggregation: Aggregation, seed: int, part: list[int]) -> None:
    """Any split, into parts of any number of rows and tokens, gives what the whole gives."""
    objective = Objective(kind, 0.2, 0.2, kl=0.1)
    batch = make_batch(seed, rows=6, aggregation=aggregation)
    loss, gradient, statistics = loss_and_gradient(batch, objective)
    total = torch.zeros((), dtype=torch.float64)
    gathered = torch.zeros_like(gradient)
    sums: PolicyStatistics | None = None
    for number in set(part):
        rows = torch.tensor(part) == number
        part_loss, gathered[rows], part_statistics = loss_and_gradient(rows_of(batch, rows), objective)
        total += part_loss
        sums = part_statistics if sums is None else sums + part_statistics
    torch.testing.assert_close(total, loss)
    torch.testing.assert_close(gathered, gradient)
    assert sums is not None and sums.means() == pytest.approx(statistics.means())


def test_weights_by_hand() -> None:
    mask = torch.tensor([[True, True, True, True], [False, True, False, False]])
    empty = torch.zeros(1, 4, dtype=torch.bool)
    expected = {"tokens": (1 / 5, 1 / 5), "sequences": (1 / 8, 1 / 2), "constant": (1 / 20, 1 / 20)}
    for aggregation in AGGREGATIONS:
        weights = token_weights(mask, aggregation, max_tokens=10)
        first, second = expected[aggregation]
        torch.testing.assert_close(weights, torch.tensor([[first] * 4, [0, second, 0, 0]]))
        # Dropped completions change nothing; a step with nothing in it has weights of 0, not of 0 / 0.
        assert (token_weights(torch.cat((mask, empty)), aggregation, max_tokens=10)[:2] == weights).all()
        assert (token_weights(empty, aggregation, max_tokens=10) == 0).all()


@given(st.integers(0, 1000))
def test_weights_sum_to_one(seed: int) -> None:
    mask = make_batch(seed).mask
    assert token_weights(mask, "tokens").sum().item() == pytest.approx(1)
    assert token_weights(mask, "sequences").sum().item() == pytest.approx(1)
    share = mask.float().mean().item()
    assert token_weights(mask, "constant", max_tokens=MAX_TOKENS).sum().item() == pytest.approx(share)


@pytest.mark.parametrize("kind", ["grpo", "gspo"])
def test_on_policy_with_sequence_means_the_loss_is_exactly_zero(kind: Kind) -> None:
    """Lengths and rewards in powers of two, so that nothing is rounded: any excess is a defect."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 0.0, 0.0, 0.0]])
    mask = torch.arange(16) < torch.tensor([[1], [16], [2], [8], [4], [4], [16], [2]])
    logprobs = -torch.rand(8, 16, generator=torch.Generator().manual_seed(0)) * 5
    batch = PolicyBatch(
        logprobs=logprobs,
        old_logprobs=logprobs.clone(),
        advantages=advantages(rewards).flatten()[:, None],
        mask=mask,
        weights=token_weights(mask, "sequences"),
        reference_logprobs=logprobs.clone(),
    )
    loss, gradient, statistics = loss_and_gradient(batch, Objective(kind, 0.2, 0.2, kl=0.001))
    assert loss.item() == 0 and statistics.kl.item() == 0
    assert (gradient[mask] != 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_without_signal_gives_no_gradient(kind: Kind) -> None:
    batch = replace(make_batch(1), advantages=advantages(torch.full((1, 4), 0.7), "group_std").view(4, 1))
    assert (loss_and_gradient(batch, Objective(kind))[1] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_unjudged_completion_counts_nowhere(kind: Kind) -> None:
    """Cleared from the mask, its row changes neither the loss nor the gradient of the others."""
    judged = make_batch(2, rows=3)
    rewards = torch.tensor([[1.0, 0.0, 0.5, float("nan")]], dtype=torch.float64)
    valid = torch.tensor([[True, True, True, False]])
    scores = advantages(rewards, "group_std", valid)[0, :, None]
    batch = make_batch(2, rows=4)
    rows = torch.cat((judged.mask, torch.zeros(1, MAX_TOKENS, dtype=torch.bool)))
    whole = PolicyBatch(
        logprobs=torch.cat((judged.logprobs, batch.logprobs[3:])),
        old_logprobs=torch.cat((judged.old_logprobs, batch.old_logprobs[3:])),
        advantages=scores,
        mask=rows,
        weights=token_weights(rows, "sequences"),
    )
    alone = replace(judged, advantages=scores[:3], reference_logprobs=None)
    loss, gradient, statistics = loss_and_gradient(whole, Objective(kind))
    expected_loss, expected_gradient, expected_statistics = loss_and_gradient(alone, Objective(kind))
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradient[:3], expected_gradient)
    assert (gradient[3] == 0).all()
    assert statistics.means() == pytest.approx(expected_statistics.means())


# The mask


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(
    st.integers(0, 1000),
    st.lists(st.sampled_from([0.0, -1.0, 500.0, math.inf, -math.inf, math.nan]), min_size=5, max_size=5),
)
def test_what_the_mask_hides_changes_nothing(kind: Kind, seed: int, garbage: list[float]) -> None:
    objective = Objective(kind, 0.2, 0.2, kl=0.1)
    batch = make_batch(seed)
    batch = replace(batch, advantages=batch.advantages.expand_as(batch.mask))
    names = ("logprobs", "old_logprobs", "advantages", "weights", "reference_logprobs")
    changed = replace(
        batch,
        **{
            name: torch.where(batch.mask, getattr(batch, name), value)
            for name, value in zip(names, garbage, strict=True)
        },
    )
    loss, gradient, statistics = loss_and_gradient(batch, objective)
    changed_loss, changed_gradient, changed_statistics = loss_and_gradient(changed, objective)
    assert changed_loss == loss and changed_loss.isfinite()
    assert torch.equal(changed_gradient, gradient) and (gradient[~batch.mask] == 0).all()
    assert changed_statistics.means() == statistics.means()


def test_a_sampled_end_token_that_is_also_the_padding_counts() -> None:
    """The mask decides, not the token: a token more in the mask is a token more in the loss."""
    batch = make_batch(5)
    longer = batch.mask | (torch.arange(MAX_TOKENS) == batch.mask.sum(dim=1, keepdim=True))
    _, gradient, statistics = loss_and_gradient(
        replace(batch, mask=longer, weights=token_weights(longer, "tokens")), Objective("cispo", 1.0, 4.0)
    )
    assert statistics.tokens.item() == longer.sum().item() > batch.mask.sum().item()
    assert ((gradient != 0) == longer).all()


# KL


@given(st.floats(-8, 0, width=32), st.floats(-8, 0, width=32))
def test_k3_is_never_negative_and_zero_only_on_the_reference(logprob: float, reference: float) -> None:
    estimate = k3(torch.tensor(logprob), torch.tensor(reference)).item()
    assert estimate >= 0
    difference = reference - logprob
    if abs(difference) > 0.01 or not difference:
        assert (estimate == 0) == (difference == 0)
        assert estimate == pytest.approx(math.exp(difference) - difference - 1, rel=1e-3)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_gradient_of_k3_is_one_minus_q(logprob: float, reference: float) -> None:
    tensor = torch.tensor(logprob, dtype=torch.float64, requires_grad=True)
    k3(tensor, torch.tensor(reference, dtype=torch.float64)).backward()
    assert tensor.grad is not None
    assert tensor.grad.item() == pytest.approx(1 - math.exp(reference - logprob), abs=1e-12)


def test_k3_estimates_the_divergence() -> None:
    """Its expectation under the policy is KL(pi || reference), in this direction."""
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0], [0.0, 0.5, 0.5, -1.0]], dtype=torch.float64)
    policy, reference = logits.log_softmax(dim=-1)
    expected = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * k3(policy, reference)).sum(), expected)


def test_kl_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="reference_logprobs"):
        policy_loss(replace(make_batch(0), reference_logprobs=None), Objective(kl=0.1))


def test_kl_is_measured_even_where_it_weighs_nothing() -> None:
    batch = make_batch(0)
    with_reference, without = (
        policy_loss(batch, Objective()),
        policy_loss(replace(batch, reference_logprobs=None), Objective()),
    )
    assert with_reference.loss == without.loss
    assert with_reference.statistics.means()["kl"] > 0 == without.statistics.means()["kl"]


# Log-probabilities


@given(st.integers(0, 1000), st.sampled_from([0.6, 1.0, 1.7]))
def test_logprobs_are_of_the_tempered_distribution(seed: int, temperature: float) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(2, 3, 11, generator=random)
    targets = torch.randint(11, (2, 3), generator=random)
    exact = (logits.double() / temperature).log_softmax(dim=-1)
    logprobs = token_logprobs(logits, targets, temperature)
    for index in ((0, 0), (0, 2), (1, 1)):
        assert logprobs[index].item() == pytest.approx(exact[index][targets[index]].item(), abs=1e-5)


def test_log_softmax_is_in_float32_whatever_the_logits_are() -> None:
    """In bfloat16 a log-probability near -10 is off by up to 0.03; here it is exact to float32."""
    random = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(4, 64, 100, generator=random)).bfloat16()
    targets = torch.randint(100, (4, 64), generator=random)
    exact = (logits.double() / 0.7).log_softmax(dim=-1).gather(-1, targets[..., None]).squeeze(-1)
    logprobs = token_logprobs(logits, targets, 0.7)
    assert logprobs.dtype == torch.float32
    assert (logprobs - exact).abs().max() < 1e-5


def test_logprobs_have_the_gradient_of_cross_entropy() -> None:
    """One-hot minus probabilities, over the temperature."""
    logits = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    token_logprobs(logits, torch.tensor([1]), 2.0).sum().backward()
    expected = (torch.tensor([[0.0, 1.0, 0.0]]) - (logits.detach() / 2).softmax(dim=-1)) / 2
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


# Settings


def test_presets_are_what_the_papers_set() -> None:
    assert set(PRESETS) == {"grpo", "dr_grpo", "dapo", "cispo", "gspo"}
    grpo, dr_grpo, dapo = PRESETS["grpo"], PRESETS["dr_grpo"], PRESETS["dapo"]
    assert grpo.objective.kl == 0.001 and all(PRESETS[name].objective.kl == 0 for name in PRESETS if name != "grpo")
    assert (grpo.aggregation, grpo.advantage_scale) == ("sequences", "group_std")
    assert (dr_grpo.aggregation, dr_grpo.advantage_scale) == ("constant", "none")
    assert dr_grpo.objective.kind == dapo.objective.kind == "grpo"
    assert dapo.aggregation == "tokens"
    assert (dapo.objective.clip_low, dapo.objective.clip_high) == (0.2, 0.28)
    assert PRESETS["cispo"].objective.clip_low == 1
    assert PRESETS["gspo"].aggregation == "sequences"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_work(name: str) -> None:
    """Each raises the better completion and lowers the worse, whatever their lengths."""
    preset = PRESETS[name]
    batch = make_batch(4, rows=2, spread=0.0)
    batch = replace(
        batch,
        advantages=advantages(torch.tensor([[1.0, 0.0]]), preset.advantage_scale).view(2, 1),
        weights=token_weights(batch.mask, preset.aggregation, MAX_TOKENS),
    )
    _, gradient, _ = loss_and_gradient(batch, preset.objective)
    assert (gradient[0][batch.mask[0]] < 0).all() and (gradient[1][batch.mask[1]] > 0).all()


def test_dr_grpo_weighs_long_and_short_alike_and_grpo_does_not() -> None:
    mask = torch.arange(MAX_TOKENS) < torch.tensor([[2], [6]])
    even, published = token_weights(mask, "constant", MAX_TOKENS), token_weights(mask, "sequences")
    assert even[0, 0] == even[1, 0]
    assert published[0, 0].item() == pytest.approx(3 * published[1, 0].item())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "ppo"}, "'ppo'.*grpo, cispo, gspo"),
        ({"clip_low": -0.1}, "clip_low is -0.1"),
        ({"clip_high": math.nan}, "clip_high is nan"),
        ({"kl": -1.0}, "kl is -1.0"),
    ],
)
def test_impossible_objectives_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Objective(**change)  # type: ignore[arg-type]


def test_impossible_settings_are_refused() -> None:
    mask = torch.ones(1, 1, dtype=torch.bool)
    with pytest.raises(UserError, match="needs max_tokens"):
        token_weights(mask, "constant")
    with pytest.raises(UserError, match="'mean' is unknown"):
        token_weights(mask, "mean")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="temperature is 0"):
        token_logprobs(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), 0)
