"""Feed-forward parts: the gated MLP, and DeepSeekMoE with bias-balanced routing."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.config import ModelConfig
from longjing.model.layers.attention import Context

# With fewer rows than this a CPU may multiply by another kernel, which rounds differently: a token's result would
# depend on how many others are with it. The longer the rows, the sooner it does so.
FEWEST_ROWS = 16


class MLP(nn.Module):
    """The gated feed-forward part (SwiGLU, arXiv 2002.05202)."""

    def __init__(self, hidden: int, intermediate: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.up_proj = nn.Linear(hidden, intermediate, bias=bias)
        self.down_proj = nn.Linear(intermediate, hidden, bias=bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Router(nn.Module):
    """Chooses experts (DeepSeek-V3, section 2.1.2): the best groups by their two best scores, then the best in them.

    `e_score_correction_bias` takes part in the choice only, never in the weights; `rebalance` moves it.
    """

    e_score_correction_bias: Tensor
    load: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))
        self.register_buffer("load", torch.zeros(config.n_routed_experts), persistent=False)

    def scores(self, x: Tensor) -> Tensor:
        """Affinity of each token to each expert, in float32 whatever `x` is: `[tokens, experts]`."""
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.weight.float())
        if self.config.scoring_func == "softmax":
            return logits.softmax(dim=-1)
        if x.device.type == "cpu":
            # In float32 the last few numbers of a tensor go through another function, which rounds differently.
            return logits.double().sigmoid().float()
        return logits.sigmoid()

    @torch.no_grad()
    def choose(self, scores: Tensor) -> Tensor:
        """The experts of each token, `[tokens, experts per token]`."""
        config, biased = self.config, scores + self.e_score_correction_bias
        if config.topk_group < config.n_group:
            grouped = biased.view(len(scores), config.n_group, -1)
            group_scores = grouped.topk(2, dim=-1).values.sum(dim=-1)
            kept = group_scores.topk(config.topk_group, dim=-1, sorted=False).indices
            lost = torch.ones_like(group_scores, dtype=torch.bool).scatter_(1, kept, False)
            biased = grouped.masked_fill(lost[..., None], float("-inf")).flatten(1)
        return biased.topk(config.num_experts_per_tok, dim=-1, sorted=False).indices

    def weigh(self, scores: Tensor, chosen: Tensor) -> Tensor:
        """The weight of each chosen expert, `[tokens, experts per token]`, from the unbiased scores."""
        weights = scores.gather(1, chosen)
        if self.config.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return weights * self.config.routed_scaling_factor

    @torch.no_grad()
    def rebalance(self, speed: float) -> None:
        """Move the bias of overloaded experts down and of idle ones up by `speed` (gamma), and count afresh."""
        self.e_score_correction_bias += speed * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


class Experts(nn.Module):
    """The routed experts' weights, stacked: `gate_up_proj` `[E, 2 I, H]`, `down_proj` `[E, H, I]`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts, hidden, inner = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(experts, hidden, inner))

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor, fewest: int) -> Tensor:
        """`x` `[tokens, hidden]`, sent to its `chosen` experts and summed by `weights`. Run one by one, an
        expert's product has at least `fewest` rows.

        Tokens are sorted by expert, so that each expert does one contiguous product.
        """
        order = chosen.flatten().argsort(stable=True)
        rows = order // chosen.shape[1]
        sent, experts = x[rows], chosen.flatten()[order]
        outputs = (
            self.grouped(sent, experts) if self.groups(x.dtype) else self.one_by_one(sent, experts, fewest)
        )
        weighted = outputs * weights.flatten()[order, None].to(x.dtype)
        return torch.zeros_like(x).index_add(0, rows, weighted.to(x.dtype))

    def one_by_one(self, x: Tensor, experts: Tensor, fewest: int = 1) -> Tensor:
        """`x` `[rows, hidden]` through the expert of each, which `experts` `[rows]` name in order.

        A GPU waits here until it is known how many rows each has.
        """
        counts = torch.bincount(experts, minlength=len(self.down_proj)).tolist()
        outputs = []
        for part, gate_up, down in zip(x.split(counts), self.gate_up_proj, self.down_proj, strict=True):
            count = len(part)
            if 0 < count < fewest:
                part = F.pad(part, (0, 0, 0, fewest - count))
            gate, up = F.linear(part, gate_up).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, down)[:count])
        return torch.cat(outputs)

    def grouped(self, x: Tensor, experts: Tensor) -> Tensor:
        """As `one_by_one`, all experts in one launch, which finds on the device where each one's rows end."""
        numbers = torch.arange(len(self.down_proj), device=x.device)
        ends = torch.searchsorted(experts, numbers, right=True, out_int32=True)
        gate, up = F.grouped_mm(x, self.gate_up_proj.to(x.dtype).mT, offs=ends).chunk(2, dim=-1)
        return F.grouped_mm(F.silu(gate) * up, self.down_proj.to(x.dtype).mT, offs=ends)

    def groups(self, dtype: torch.dtype) -> bool:
        """Whether `grouped` is one launch here: PyTorch has it in bfloat16 for Hopper and datacentre Blackwell, for
        rows of whole 16 bytes. Elsewhere it would wait and take the experts one by one, too."""
        weight = self.down_proj
        return (
            dtype == torch.bfloat16
            and weight.is_cuda
            and all(size % 8 == 0 for size in weight.shape[1:])
            and torch.cuda.get_device_capability(weight.device)[0] in (9, 10)
        )


class MixtureOfExperts(nn.Module):
    """DeepSeekMoE: a few routed experts of many, beside experts that every token shares."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config)
        self.shared_experts = MLP(config.hidden_size, config.moe_intermediate_size * config.n_shared_experts)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape; notes the experts taken in `context.routes`."""
        tokens = x.flatten(0, 1)
        scores = self.gate.scores(tokens)
        if context.replay is None:
            chosen = self.gate.choose(scores)
        else:
            chosen = context.fill(context.replay[:, :, len(context.routes)]).flatten(0, 1)
        context.routes.append(context.cut(chosen.view(*x.shape[:2], -1)))
        if self.training:
            ones = torch.ones_like(chosen, dtype=self.gate.load.dtype)
            self.gate.load.scatter_add_(0, chosen.flatten(), ones.flatten())
        if context.balance is not None:
            context.balance.append(balance_loss(scores.view(*x.shape[:2], -1), context.routes[-1]))
        fewest = FEWEST_ROWS if context.batch_invariant else 1
        routed = self.experts(tokens, chosen, self.gate.weigh(scores, chosen), fewest)
        return routed.view_as(x) + self.shared_experts(x, context)


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
