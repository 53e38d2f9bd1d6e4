"""The draws: their distribution, their supports, their numbers."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from longjing.errors import UserError
from longjing.generation.native.sampling import Sampler, _invert
from longjing.generation.random import sample_seed, signed, uniform
from longjing.generation.request import Sampling

DRAWS = 20_000
LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, float("-inf"), 1.5, -3.0])


def draw(logits, **settings):
    """Many draws from one distribution, each with a seed of its own."""
    sampler = Sampler.of([Sampling(seed=i, **settings) for i in range(DRAWS)], logits.device)
    return sampler.draw(logits.expand(DRAWS, -1), torch.zeros(DRAWS, dtype=torch.int64))[:2]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax(temperature):
    tokens, logprobs = draw(LOGITS, temperature=temperature)
    expected = (LOGITS / temperature).softmax(-1)
    counts = torch.bincount(tokens, minlength=8)
    assert counts[5] == 0
    possible = expected > 0
    chi_square = ((counts - DRAWS * expected) ** 2 / (DRAWS * expected))[possible].sum()
    assert chi_square < 24.3  # 6 degrees of freedom: one seed in two thousand would be above
    torch.testing.assert_close(logprobs, expected.log()[tokens])


@pytest.mark.parametrize(
    ("settings", "support"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 3}, {0, 1, 6}),
        ({"top_p": 0.4}, {0}),  # 0.427 alone passes 0.4
        ({"top_p": 0.43}, {0, 6}),
        ({"top_p": 0.8}, {0, 1, 6}),
        ({"min_p": 0.2}, {0, 1, 2, 6}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.75}, {0, 6}),  # of what top-k left, the first two are 0.79
        ({"temperature": 0.0, "top_k": 3}, {0}),
        ({"top_k": 100}, {0, 1, 2, 3, 4, 6, 7}),
    ],
)
def test_filters_keep_their_support_and_its_proportions(settings, support):
    tokens, _ = draw(LOGITS, **settings)
    counts = torch.bincount(tokens, minlength=8)
    assert set(tokens.tolist()) == support
    kept = torch.tensor(sorted(support))
    expected = LOGITS[kept].softmax(-1) * DRAWS
    assert ((counts[kept] - expected).abs() < 5 * expected.sqrt() + 1).all()


@given(st.integers(0, 2**32), st.sampled_from([511, 4096, 4200, 5000]), st.floats(0, 1, exclude_max=True))
def test_a_number_finds_its_token_block_by_block_as_one_by_one(seed: int, vocabulary: int, number: float) -> None:
    """The sum of what is before a token is at most the number's share of all, but for roundings in float32."""
    random = torch.Generator().manual_seed(seed)
    weights = torch.rand(3, vocabulary, generator=random) ** 8
    weights[torch.rand(3, vocabulary, generator=random) < 0.5] = 0
    weights[0, :-1] = 0  # nothing but the last
    weights[:, -1] = 1e-6
    tokens = _invert(weights, torch.full((3,), number, dtype=torch.float64))
    sums = weights.double().cumsum(dim=-1)
    for row, token in enumerate(tokens.tolist()):
        assert weights[row, token] > 0
        target, slack = sums[row, -1] * number, 1e-6 * sums[row, -1]
        assert sums[row, token] >= target - slack
        assert sums[row, token] - weights[row, token] <= target + slack


@given(st.integers(0, 2**32), st.floats(0.01, 8), st.data())
def test_of_a_large_vocabulary_a_row_keeps_what_it_should_whoever_stands_beside_it(seed, spread, data):
    """Rows whose nucleus is a few tokens, and rows whose is most of the vocabulary: against a plain loop."""
    size, settings = (
        300,
        st.builds(
            Sampling,
            top_k=st.sampled_from([0, 1, 20, 128, 129, 300, 500]),
            top_p=st.sampled_from([0.1, 0.5, 0.95, 1.0]),
        ),
    )
    rows = data.draw(st.lists(settings, min_size=1, max_size=4))
    logits = torch.randn(len(rows), size, generator=torch.Generator().manual_seed(seed)) * spread
    probabilities = logits.softmax(-1)
    kept = Sampler.of(rows, logits.device)._filter(probabilities)
    for row, sampling in enumerate(rows):
        ordered = sorted(probabilities[row].tolist(), reverse=True)[: sampling.top_k or None]
        before, nucleus = 0.0, 0
        least = sampling.top_p * sum(ordered) - 1e-5 if sampling.top_p < 1 else float("inf")
        while nucleus < len(ordered) and (before < least or not nucleus):
            before += ordered[nucleus]
            nucleus += 1
        assert torch.equal(kept[row][kept[row] > 0], probabilities[row][kept[row] > 0])
        assert kept[row].max() == probabilities[row].max()
        assert kept[row].sum().item() == pytest.approx(sum(ordered[:nucleus]), abs=max(2e-5, ordered[nucleus - 1]))
        if sampling.top_k == 0 and sampling.top_p == 1.0:
            continue
        assert abs(int((kept[row] > 0).sum()) - nucleus) <= 1 or ordered[nucleus - 1] < 1e-5
        alone = Sampler.of([sampling], logits.device)._filter(probabilities[row : row + 1])
        assert torch.equal(alone[0], kept[row])


@given(
    st.one_of(st.just(0.0), st.floats(1e-4, 1e4)), st.floats(0, 1, exclude_min=True), st.floats(0, 1),
    st.integers(0, 9), st.lists(st.floats(-100, 100), min_size=8, max_size=8), st.integers(0, 99),
)  # fmt: skip
@example(1.0, 5e-324, 0.0, 0, [0.0] * 8, 0)
@example(1e-4, 1e-50, 1.0, 1, [100.0] * 8, 0)
def test_any_settings_draw_a_token_that_is_possible(temperature, top_p, min_p, top_k, bias, seed):
    settings = Sampling(temperature=temperature, top_p=top_p, min_p=min_p, top_k=top_k, seed=seed)
    for noted in (None, torch.tensor([bias])):
        draw = Sampler.of([settings], LOGITS.device).draw(LOGITS[None], torch.zeros(1, dtype=torch.int64), noted)
        assert 0 <= int(draw.tokens) < 8 and int(draw.tokens) != 5 and draw.logprobs.isfinite()


def test_rows_keep_their_own_settings():
    settings = [Sampling(temperature=0), Sampling(top_k=1, temperature=3), Sampling(min_p=1), Sampling(top_p=1e-6)]
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    tokens, logprobs, _ = Sampler.of(settings, logits.device).draw(logits, torch.arange(4))
    assert torch.equal(tokens, logits.argmax(-1))
    expected = logits / torch.tensor([1.0, 3.0, 1.0, 1.0])[:, None]
    torch.testing.assert_close(logprobs, expected.log_softmax(-1).gather(1, tokens[:, None])[:, 0])


def test_a_large_vocabulary_keeps_its_tail():
    vocabulary, rows = 129_280, 64
    settings = [Sampling(seed=i) for i in range(rows)]
    positions = torch.arange(rows)
    tokens, *_ = Sampler.of(settings, positions.device).draw(torch.zeros(rows, vocabulary), positions)
    numbers = uniform(torch.arange(rows), positions)
    assert ((tokens - (numbers.double() * vocabulary).floor()).abs() <= 1).all()


words = st.integers(0, 2**64 - 1)


@given(words, st.integers(0, 2**31))
def test_uniform_is_splitmix_in_plain_integers(seed, position):
    mask = 2**64 - 1

    def scramble(state):
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ state >> 27) * 0x94D049BB133111EB & mask
        return state ^ state >> 31

    expected = (scramble(scramble(seed) + (position + 1) * 0x9E3779B97F4A7C15 & mask) >> 40) / 2**24
    drawn = uniform(torch.tensor([signed(seed)]), torch.tensor([position]))
    assert drawn.dtype == torch.float32 and drawn.item() == expected


def test_numbers_are_even_over_positions_and_over_seeds():
    grid = uniform(torch.arange(500)[:, None].expand(-1, 40), torch.arange(40).expand(500, -1))
    for numbers in (grid.flatten(), grid[0], grid[:, 0]):
        error = (numbers.sort().values - torch.linspace(0, 1, len(numbers))).abs().max()
        assert error < 1.95 / len(numbers) ** 0.5  # Kolmogorov and Smirnov at one in a thousand
    correlation = torch.corrcoef(grid.T) - torch.eye(40)
    assert correlation.abs().max() < 0.25


def test_sample_seeds_are_fixed_and_distinct():
    seeds = {
        sample_seed(run, step, problem, sample)
        for run in range(3) for step in range(5) for problem in ("a", "b", "1") for sample in range(7)
    }  # fmt: skip
    assert len(seeds) == 3 * 5 * 3 * 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert sample_seed(0, 0, "a", 0) == 4243282763346690733


@pytest.mark.parametrize(
    "settings",
    [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}, {"min_p": 2}, {"max_tokens": 0},
     {"stop": ("",)}, {"temperature": float("nan")}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        Sampling(**settings)
