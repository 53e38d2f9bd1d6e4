"""One layer of the decoder."""

from torch import Tensor, nn

from longjing.model.config import ModelConfig
from longjing.model.layers.attention import GroupedQueryAttention, LatentAttention
from longjing.model.layers.context import Context
from longjing.model.layers.mlp import MLP
from longjing.model.layers.moe import MixtureOfExperts
from longjing.model.layers.norm import RMSNorm


class Block(nn.Module):
    """One layer: attention and a feed-forward part, each behind a norm and added to its input."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        hidden, eps = config.hidden_size, config.rms_norm_eps
        attention = LatentAttention if config.is_latent else GroupedQueryAttention
        self.input_layernorm = RMSNorm(hidden, eps=eps)
        self.self_attn = attention(config, layer)
        self.post_attention_layernorm = RMSNorm(hidden, eps=eps)
        self.mlp = (
            MixtureOfExperts(config)
            if config.has_experts(layer)
            else MLP(hidden, config.intermediate_size, config.mlp_bias)
        )

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), context)
        return x + self.mlp(self.post_attention_layernorm(x), context)
