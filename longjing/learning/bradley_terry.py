"""The losses of reward models: of pairs (Bradley and Terry), and of single texts. Per example: add up, divide once."""

from torch import Tensor
from torch.nn import functional as F


def pairwise_loss(chosen: Tensor, rejected: Tensor, centre: float = 0.0) -> Tensor:
    """-log sigmoid(c - r) + centre * (c + r)^2 for the scores of each pair, `[pairs]`.

    The first term: the chosen answer wins with the probability that its lead gives it (Bradley and Terry 1952;
    InstructGPT, arXiv 2203.02155, equation 1), as R1's reward for helpfulness. It says nothing about where
    scores lie; the second term keeps them around 0 (arXiv 2312.09244), where a sigmoid tells them apart.
    """
    return -F.logsigmoid(chosen - rejected) + centre * (chosen + rejected).square()


def pointwise_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """-[y log sigmoid(s) + (1 - y) log(1 - sigmoid(s))] for each score s with its label y (0 or 1), `[texts]`:
    binary cross-entropy, as R1's reward for safety, with sigmoid(s) the probability of y = 1."""
    return F.binary_cross_entropy_with_logits(scores, labels.to(scores), reduction="none")
