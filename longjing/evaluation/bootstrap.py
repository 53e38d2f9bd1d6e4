"""The bootstrap over problems, and what stands in for it where too few problems differ.

The samples of one problem resemble each other, so problems, not samples, are what an interval counts.
"""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

_DRAWS = 10_000
_CELLS = 4_000_000  # of one chunk of resampled problems: bounds the memory of a bootstrap
# Where fewer problems than this carry the variation, resampling them says little (and nothing at zero).
_FEW = 5


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval. `method` says how the interval was made."""

    mean: float
    low: float
    high: float
    method: str

    def __str__(self) -> str:
        return f"{self.mean:.1%}  (95%: {self.low:.1%} to {self.high:.1%})"


def mean_over_problems(means: Scores, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean of what each problem scores, `[problems]` in [0, 1], with its interval.

    The interval is a percentile bootstrap over problems. That collapses to a point when all problems score
    alike, and misses the tail when only a handful differ, so with fewer than five problems ever solved, or
    fewer than five ever failed, or no variation, it is Wilson's score interval (1927) with the problems as
    trials: wider than needed rather than too narrow, since a score in [0, 1] never varies more than a coin
    with the same mean. Everything is NaN where there is no problem.
    """
    if not len(means):
        return Interval(np.nan, np.nan, np.nan, "nothing was measured")
    mean = float(means.mean())
    if min((means > 0).sum(), (means < 1).sum()) < _FEW or np.ptp(means) == 0:
        return Interval(mean, *wilson(mean, len(means), level), "Wilson, problems as trials")
    return Interval(mean, *bootstrap(means, seed, level), "bootstrap over problems")


def paired_difference(before: Scores, after: Scores, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean of `after - before`, means per problem `[problems]` of the same problems in the same order.

    A bootstrap over problems; where fewer than five problems differ, Agresti and Min's adjusted interval for matched
    pairs (Statistics in Medicine 24, 2005), which adds half an observation to each cell of the table and so keeps a
    width when nothing differs. Written with sums of squares, it holds for means as for zeros and ones.
    """
    differences = after - before
    mean, n = float(differences.mean()), len(differences)
    if (differences != 0).sum() >= _FEW and np.ptp(differences) > 0:
        return Interval(mean, *bootstrap(differences, seed, level), "paired bootstrap over problems")
    centre = float(differences.sum()) / (n + 2)
    variance = float((differences**2).sum() + 1 - differences.sum() ** 2 / (n + 2)) / (n + 2) ** 2
    reach = NormalDist().inv_cdf(0.5 + level / 2) * sqrt(variance)
    low, high = max(centre - reach, -1.0), min(centre + reach, 1.0)
    return Interval(mean, low, high, "Agresti-Min for matched pairs")


def bootstrap(values: Scores, seed: int, level: float = 0.95, draws: int = _DRAWS) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of `values` (Efron 1979): resampled `draws` times."""
    random, chunk = np.random.default_rng(seed), max(_CELLS // len(values), 1)
    means = [
        values[random.integers(len(values), size=(min(chunk, draws - start), len(values)))].mean(axis=1)
        for start in range(0, draws, chunk)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wilson(mean: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (JASA 22, 1927) of a proportion observed in `trials` trials."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    centre = (mean + z * z / (2 * trials)) / (1 + z * z / trials)
    reach = z / (1 + z * z / trials) * sqrt(mean * (1 - mean) / trials + z * z / (4 * trials * trials))
    # Rounding must not put the mean outside its own interval where it is 0 or 1.
    return min(max(centre - reach, 0.0), mean), max(min(centre + reach, 1.0), mean)
