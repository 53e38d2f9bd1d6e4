"""The dense feed-forward part."""

from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.layers.context import Context
from longjing.model.layers.linear import Linear, project


class MLP(nn.Module):
    """The gated feed-forward part (SwiGLU, arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, hidden: int, intermediate: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden, intermediate, bias=bias)
        self.up_proj = Linear(hidden, intermediate, bias=bias)
        self.down_proj = Linear(intermediate, hidden, bias=bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        gate, up = project(x, self.gate_proj, self.up_proj)
        return self.down_proj(F.silu(gate) * up)
