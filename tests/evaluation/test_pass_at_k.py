"""The estimators against brute force, and the intervals against what they promise."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.evaluation.bootstrap import bootstrap, paired_difference, wilson
from longjing.evaluation.pass_at_k import majority, pass_at_1, pass_at_k

SCORE = st.sampled_from([0.0, 1.0])
GRIDS = st.integers(1, 6).flatmap(
    lambda samples: st.lists(st.lists(SCORE, min_size=samples, max_size=samples), min_size=1, max_size=12)
)


@given(GRIDS, st.integers(1, 6))
def test_pass_at_k_is_the_mean_over_all_choices_of_k_samples(grid, k):
    if k > len(grid[0]):
        with pytest.raises(ValueError, match="samples"):
            pass_at_k(np.array(grid), k)
        return
    chances = [np.mean([max(chosen) for chosen in combinations(row, k)]) for row in grid]
    assert pass_at_k(np.array(grid), k).mean == pytest.approx(np.mean(chances))


@given(GRIDS)
def test_pass_at_1_is_the_mean_of_the_samples_of_each_problem(grid):
    interval = pass_at_1(np.array(grid))
    assert interval.mean == pytest.approx(np.mean(grid))
    assert interval.mean == pytest.approx(pass_at_k(np.array(grid), 1).mean)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert interval.high > interval.low


VOTES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), SCORE), min_size=1, max_size=6)


@given(VOTES)
def test_majority_is_the_expectation_over_every_way_to_break_a_tie(votes):
    """Brute force: shuffle the samples in every way, take the first answer of the highest count, and of it
    a sample at random. All orders together break ties evenly."""
    valid = [(answer, score) for answer, score in votes if answer is not None]
    outcomes = []
    for order in permutations(valid):
        answers = [answer for answer, _ in order]
        best = max(dict.fromkeys(answers), key=answers.count, default=None)
        outcomes.append(np.mean([score for answer, score in order if answer == best]) if order else 0.0)
    assert majority(*zip(*votes, strict=True)) == pytest.approx(np.mean(outcomes))


def test_majority_outvotes_scattered_mistakes_and_unanimity_keeps_one():
    assert majority(["7", "3", "7", "4", "5"], [1, 0, 1, 0, 0]) == 1.0
    assert majority(["3", "7", "3"], [0, 1, 0]) == 0.0
    assert majority([None, "7", None], [0, 1, 0]) == 1.0  # who has no answer doesn't vote
    assert majority(["3", "7"], [0, 1]) == 0.5
    assert majority([None, None], [0, 0]) == 0.0


@given(st.lists(st.floats(0, 1), min_size=4, max_size=5))
def test_the_bootstrap_agrees_with_enumerating_all_resamples(values):
    values = np.array(values)
    means = np.array(list(product(values, repeat=len(values)))).mean(axis=1)
    low, high = bootstrap(values, seed=0, draws=20_000)
    # The quantiles of a finite set jump; the bootstrap's must lie between neighbouring exact ones.
    for bound, level in ((low, 0.025), (high, 0.975)):
        below, above = np.quantile(means, [max(level - 0.012, 0), min(level + 0.012, 1)])
        assert below - 1e-9 <= bound <= above + 1e-9


def test_the_bootstrap_in_chunks_is_reproducible_and_narrows_with_the_root_of_the_problems():
    random = np.random.default_rng(1)
    values = random.random(1000)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3) != bootstrap(values, seed=4)
    low, high = bootstrap(values, seed=3)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1000), rel=0.05)


@pytest.mark.parametrize("truth", [0.0, 0.002, 0.02, 0.3, 0.97, 1.0])
def test_the_interval_covers_the_truth_as_often_as_it_says(truth):
    """100 problems x 4 samples, the problems of uneven difficulty (beta distributed), 300 repetitions."""
    random = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        chance = random.beta(truth, 1 - truth, size=(100, 1)) if 0 < truth < 1 else np.full((100, 1), truth)
        means = (random.random((100, 4)) < chance).astype(float)
        interval = pass_at_1(means, seed=trial)
        covered += interval.low <= truth <= interval.high
    assert covered >= 300 * 0.9


@given(st.integers(1, 2000), st.booleans())
def test_when_all_samples_agree_the_interval_still_has_a_width(problems, solved):
    interval = pass_at_1(np.full((problems, 4), float(solved)))
    width = interval.high - interval.low
    # The rule of three: nothing in n trials leaves about 3.8 / n at 95% (two-sided).
    assert width == pytest.approx(3.84 / (problems + 3.84), rel=0.01)
    assert interval.mean == float(solved)
    assert "Wilson" in interval.method


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.5, 0.99))
def test_wilson_inverts_the_score_test(trials, mean, level):
    """At either end, the observed mean is exactly z standard errors of that end away."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf(0.5 + level / 2)
    for end in wilson(mean, trials, level):
        if 1e-9 < end < 1 - 1e-9 and abs(end - mean) > 1e-9:
            assert abs(mean - end) == pytest.approx(z * np.sqrt(end * (1 - end) / trials), rel=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_a_paired_difference_turns_round_with_its_arguments(pairs):
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    there, back = paired_difference(before, after), paired_difference(after, before)
    assert there.mean == pytest.approx((after - before).mean())
    assert there.mean == pytest.approx(-back.mean)
    assert -1 <= there.low < there.high <= 1 or np.ptp(after - before) < 1e-9
    slack = 0.05 * (there.high - there.low) + 1e-9  # the bootstrap's draws aren't mirrored
    assert there.low == pytest.approx(-back.high, abs=slack)


def test_pairing_removes_what_the_problems_have_in_common():
    random = np.random.default_rng(0)
    difficulty = random.random(200)
    before, after = difficulty * 0.9, difficulty * 0.9 + 0.1 * random.random(200)
    paired = paired_difference(before, after)
    assert paired.low > 0
    alone = [bootstrap(side, seed=0) for side in (before, after)]
    assert alone[0][1] > alone[1][0], "unpaired, the two intervals overlap"


def test_no_difference_at_all_is_not_certainty():
    same = np.ones(200)
    interval = paired_difference(same, same)
    assert interval.mean == 0
    assert interval.high == -interval.low == pytest.approx(1.96 / 202, rel=1e-3)
