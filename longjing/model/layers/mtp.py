"""Multi-token prediction: modules that predict the tokens after the next (DeepSeek-V3, section 2.2)."""

import torch
from torch import Tensor, nn

from longjing.model.config import ModelConfig
from longjing.model.layers.block import Block
from longjing.model.layers.context import Context
from longjing.model.layers.linear import Linear
from longjing.model.layers.norm import RMSNorm


class MultiTokenPrediction(nn.Module):
    """One module: from the hidden state at position i and the token at i + 1 it makes the hidden state that predicts
    the token at i + 2. Embeddings and head are the decoder's own."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.enorm = RMSNorm(hidden, eps=eps)
        self.hnorm = RMSNorm(hidden, eps=eps)
        self.eh_proj = Linear(2 * hidden, hidden, bias=False)
        self.block = Block(config, layer)
        self.norm = RMSNorm(hidden, eps=eps)

    def forward(self, embedded: Tensor, hidden: Tensor, context: Context) -> Tensor:
        """`embedded` (the next tokens) and `hidden`, both `[batch, length, hidden]` -> the same shape, normed."""
        x = self.eh_proj(torch.cat((self.enorm(embedded), self.hnorm(hidden)), dim=-1))
        return self.norm(self.block(x, context))
