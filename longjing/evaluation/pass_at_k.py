"""pass@1, pass@k and maj@k: what repeated samples of the same problems say of a model.

Scores are arrays `[problems, samples]`: 1 correct, 0 not: wrong or unjudged.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from math import comb

import numpy as np

from longjing.evaluation.bootstrap import Interval, Scores, mean_over_problems


def pass_at_1(scores: Scores, seed: int = 0, level: float = 0.95) -> Interval:
    """The mean over problems of the mean over samples, with its interval (`mean_over_problems`)."""
    return mean_over_problems(scores.mean(axis=1), seed, level)


def pass_at_k(scores: Scores, k: int) -> Interval:
    """The chance that at least one of k samples is correct, unbiased: the mean of 1 - C(n - c, k) / C(n, k), with its
    interval (`mean_over_problems`).

    Chen et al. 2021 (arXiv 2107.03374, equation 1); n samples of a problem, c of them correct. Raises ValueError for
    a k larger than n.
    """
    n = scores.shape[1]
    if k > n:
        raise ValueError(f"no {k} of {n} samples")
    solved = scores.sum(axis=1).astype(int).tolist()
    return mean_over_problems(np.array([1 - comb(n - c, k) / comb(n, k) for c in solved]))


def majority(answers: Sequence[Hashable | None], scores: Sequence[float]) -> float:
    """The accuracy of the answer that most samples of one problem agree on (maj@k, cons@k; k = their number).

    Self-consistency, arXiv 2203.11171. None (no final answer) abstains. Among tied answers each is as likely to be
    taken, so their mean counts: the expected accuracy. Where samples with the same answer were judged differently,
    their mean counts too. No votes at all score 0.
    """
    ballots: dict[Hashable, list[float]] = defaultdict(list)
    for answer, score in zip(answers, scores, strict=True):
        if answer is not None:
            ballots[answer].append(score)
    votes = Counter({answer: len(scores_given) for answer, scores_given in ballots.items()})
    winners = [answer for answer in votes if votes[answer] == max(votes.values())]
    return sum(sum(ballots[answer]) / votes[answer] for answer in winners) / max(len(winners), 1)
