"""Which experts a token takes, and how their load is balanced: a bias without a loss, and a weak loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.batch_invariance import batch_invariant_sigmoid
from longjing.model.config import ModelConfig


class Router(nn.Module):
    """Chooses experts: the best groups, then the best in them. A group counts by its two best scores (DeepSeek-V3,
    section 2.1.2), or without a bias by its best one (DeepSeek-V2, section 2.2.2).

    `e_score_correction_bias` takes part in the choice only, never in the weights; `rebalance` moves it.
    """

    e_score_correction_bias: Tensor | None
    load: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        has_bias = config.topk_method == "noaux_tc"
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts) if has_bias else None)
        self.register_buffer("load", torch.zeros(config.n_routed_experts), persistent=False)

    def scores(self, x: Tensor) -> Tensor:
        """Affinity of each token to each expert, in float32 whatever `x` is: `[tokens, experts]`."""
        # Two experts are often nearly as good: in bfloat16 a rounding would choose between them.
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.weight.float())
        if self.config.scoring_func == "softmax":
            return logits.softmax(dim=-1)
        return batch_invariant_sigmoid(logits)

    @torch.no_grad()
    def choose(self, scores: Tensor) -> Tensor:
        """The experts of each token, `[tokens, experts per token]`."""
        config, bias = self.config, self.e_score_correction_bias
        biased = scores if bias is None else scores + bias
        if config.topk_group < config.n_group:
            grouped = biased.view(len(scores), config.n_group, -1)
            group_scores = grouped.topk(1 if bias is None else 2, dim=-1).values.sum(dim=-1)
            winners = group_scores.topk(config.topk_group, dim=-1, sorted=False).indices
            is_loser = torch.ones_like(group_scores, dtype=torch.bool).scatter_(1, winners, False)
            # Not zero: a biased score may be negative, and then a loser's zero would win.
            biased = grouped.masked_fill(is_loser[..., None], float("-inf")).flatten(1)
        return biased.topk(config.num_experts_per_tok, dim=-1, sorted=False).indices

    def weigh(self, scores: Tensor, chosen: Tensor) -> Tensor:
        """The weight of each chosen expert, `[tokens, experts per token]`, from the unbiased scores."""
        weights = scores.gather(1, chosen)
        if self.config.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return weights * self.config.routed_scaling_factor

    @torch.no_grad()
    def rebalance(self, speed: float) -> None:
        """Move the bias, if there is one, of overloaded experts down and of idle ones up by `speed` (gamma), and count
        afresh."""
        if self.e_score_correction_bias is not None:
            self.e_score_correction_bias += speed * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


def balance_loss(scores: Tensor, chosen: Tensor) -> Tensor:
    """Sequence-wise balance loss (DeepSeek-V3, equations 17 to 20), without its factor alpha.

    `scores` `[batch, length, E]`, `chosen` `[batch, length, K]` -> a scalar, the mean over sequences of
    sum_i f_i P_i: f_i is expert i's share of the choices times E, P_i its mean share of the scores. 1 is even.
    """
    experts, (_, length, per_token) = scores.shape[-1], chosen.shape
    counts = F.one_hot(chosen, experts).sum(dim=(1, 2)).to(scores.dtype)
    fraction = counts * experts / (per_token * length)
    probability = (scores / scores.sum(dim=-1, keepdim=True)).mean(dim=1)
    return (fraction * probability).sum(dim=-1).mean()
