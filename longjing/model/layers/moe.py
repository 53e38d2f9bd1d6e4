"""DeepSeekMoE: a mixture of experts with bias-balanced routing."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.batch_invariance import missing_rows
from longjing.model.config import ModelConfig
from longjing.model.layers.context import Context
from longjing.model.layers.linear import Weight, dense, linear
from longjing.model.layers.mlp import MLP
from longjing.model.layers.router import Router, balance_loss


class Experts(nn.Module):
    """The routed experts: a gated MLP each, their matrices stacked in two weights (`linear.py`), `gate_up_proj`
    `[experts, 2 * inner, hidden]` and `down_proj` `[experts, hidden, inner]`."""

    gate_up_proj: Weight
    down_proj: Weight

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.count, hidden, inner = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(self.count, 2 * inner, hidden))
        self.down_proj = nn.Parameter(torch.empty(self.count, hidden, inner))

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor, batch_invariant: bool) -> Tensor:
        """`x` `[tokens, hidden]` through the experts that `chosen` names, summed by `weights` (both `[tokens, experts
        per token]`). `batch_invariant`: see `one_by_one`.

        Tokens are sorted by expert, so that each expert does one contiguous product.
        """
        # Stable: an expert's rows, and so the sums over them, have the same order in every run.
        order = chosen.flatten().argsort(stable=True)
        rows = order // chosen.shape[1]  # the token that each choice belongs to
        sent, experts = x[rows], chosen.flatten()[order]
        if self.has_grouped_product(x.dtype):
            outputs = self.grouped(sent, experts)
        else:
            outputs = self.one_by_one(sent, experts, batch_invariant)
        weighted = outputs * weights.flatten()[order, None].to(x.dtype)
        return torch.zeros_like(x).index_add(0, rows, weighted.to(x.dtype))

    def one_by_one(self, x: Tensor, experts: Tensor, batch_invariant: bool = False) -> Tensor:
        """`x` `[rows, hidden]` through the expert of each, which `experts` `[rows]` name in order. `batch_invariant`:
        no expert multiplies fewer rows than those from which products round alike.

        A GPU waits here until it is known how many rows each has.
        """
        counts = torch.bincount(experts, minlength=self.count).tolist()
        gate_ups: Sequence[Weight] = self.gate_up_proj.unbind()
        downs: Sequence[Weight] = self.down_proj.unbind()
        outputs = []
        for rows, gate_up, down in zip(x.split(counts), gate_ups, downs, strict=True):
            count = len(rows)
            if batch_invariant and (padding := missing_rows(count)):
                rows = F.pad(rows, (0, 0, 0, padding))  # zeros: no token of which anything is read
            gate, up = linear(rows, gate_up).chunk(2, dim=-1)
            outputs.append(linear(F.silu(gate) * up, down)[:count])
        return torch.cat(outputs)

    def grouped(self, x: Tensor, experts: Tensor) -> Tensor:
        """The sum of the experts' outputs, as in `one_by_one`, all in one launch, which finds on the device where each
        one's rows end."""
        numbers = torch.arange(self.count, device=x.device)
        ends = torch.searchsorted(experts, numbers, right=True, out_int32=True)
        gate, up = F.grouped_mm(x, dense(self.gate_up_proj).to(x.dtype).mT, offs=ends).chunk(2, dim=-1)
        return F.grouped_mm(F.silu(gate) * up, dense(self.down_proj).to(x.dtype).mT, offs=ends)

    def has_grouped_product(self, dtype: torch.dtype) -> bool:
        """Whether `grouped` is one launch here: PyTorch has it in bfloat16 for Hopper and datacentre Blackwell, for
        rows of whole 16 bytes. Elsewhere it would wait and take the experts one by one, too. Weights that aren't
        dense have their own products."""
        weight = self.down_proj
        return (
            dtype == torch.bfloat16
            and isinstance(weight, Tensor)
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
        self.shared_experts: MLP | None = None
        if config.n_shared_experts:
            self.shared_experts = MLP(config.hidden_size, config.moe_intermediate_size * config.n_shared_experts)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape; notes the experts taken in `context.routes`."""
        tokens = x.flatten(0, 1)
        scores = self.gate.scores(tokens)
        if context.replay is None:
            chosen = self.gate.choose(scores)
        else:
            chosen = context.pad_rows(context.replay[:, :, len(context.routes)]).flatten(0, 1)
        context.routes.append(context.unpad(chosen.view(*x.shape[:2], -1)))
        if self.training and not context.repeated:
            # Only what is learned from moves the bias: an engine's reading is in `eval` mode.
            ones = torch.ones_like(chosen, dtype=self.gate.load.dtype)
            self.gate.load.scatter_add_(0, chosen.flatten(), ones.flatten())
        if context.balance is not None:
            context.balance.append(balance_loss(scores.view(*x.shape[:2], -1), context.routes[-1]))
        routed = self.experts(tokens, chosen, self.gate.weigh(scores, chosen), context.batch_invariant)
        routed = routed.view_as(x)
        return routed if self.shared_experts is None else routed + self.shared_experts(x, context)
