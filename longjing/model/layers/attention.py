"""The two kinds of attention: latent (DeepSeek) and grouped-query (Qwen, Llama)."""

import torch
from torch import Tensor, nn

from longjing.model.config import ModelConfig
from longjing.model.layers.context import Context
from longjing.model.layers.linear import Linear, dense, project
from longjing.model.layers.norm import RMSNorm
from longjing.model.layers.rope import rotate
from longjing.model.layers.scaled_dot_product import scaled_dot_product_attention


class LatentAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1; DeepSeek-V3, section 2.1.1).

    Keys and values of all heads are linear in one latent per token, so the latent (and one rotated key
    shared by all heads) is all a cache keeps. For decoding, `kv_b_proj` is absorbed: its key half moves over
    to the query and its value half behind the attention, and heads attend to latents directly.

    The numbers in the comments are those of the equations in the DeepSeek-V3 report.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.rank, self.value_dim = (
            config.num_attention_heads, config.kv_lora_rank, config.v_head_dim,
        )  # fmt: skip
        self.nope_dim, self.rope_dim = config.qk_nope_head_dim, config.qk_rope_head_dim
        self.scale, self.interleaved = config.softmax_scale, config.rope_interleave
        hidden, bias, query = config.hidden_size, config.attention_bias, self.nope_dim + self.rope_dim
        self.compresses_query = config.q_lora_rank is not None
        if config.q_lora_rank is None:
            self.q_proj = Linear(hidden, self.heads * query, bias=False)
        else:
            self.q_a_proj = Linear(hidden, config.q_lora_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, eps=1e-6)
            self.q_b_proj = Linear(config.q_lora_rank, self.heads * query, bias=False)
        self.kv_a_proj_with_mqa = Linear(hidden, self.rank + self.rope_dim, bias=bias)
        self.kv_a_layernorm = RMSNorm(self.rank, eps=1e-6)
        self.kv_b_proj = Linear(self.rank, self.heads * (self.nope_dim + self.value_dim), bias=False)
        self.o_proj = Linear(self.heads * self.value_dim, hidden, bias=config.output_bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        batch, length, _ = x.shape
        # (1) the latent, and (3) the rotated key: of one product. They are what is cached of a token.
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((self.rank, self.rope_dim), dim=-1)
        latent = self.kv_a_layernorm(latent)
        k_rope = rotate(k_rope[:, :, None], context.cos, context.sin, self.interleaved)
        # (6) to (8) the queries, of which a part rotates.
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))) if self.compresses_query else self.q_proj(x)
        q = q.view(batch, length, self.heads, self.nope_dim + self.rope_dim)
        q_nope, q_rope = q.split((self.nope_dim, self.rope_dim), dim=-1)
        q_rope = rotate(q_rope, context.cos, context.sin, self.interleaved)

        entries = torch.cat((latent, k_rope[:, :, 0]), dim=-1)
        if context.cache is not None:
            cached = context.cache.update(self.layer, context.unpad(entries))
            entries = cached if context.reads_cache else entries
        if context.eager_attention:
            out = self._absorbed(q_nope, q_rope, entries, context)
        else:
            out = self._expanded(q_nope, q_rope, latent, k_rope, context)
        return self.o_proj(out.flatten(2))  # (11)

    def _expanded(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, k_rope: Tensor, context: Context) -> Tensor:
        """Attention of whole texts, by the report's equations: every head has its own keys and values."""
        # (2) and (5): the keys' part that doesn't rotate, and the values.
        keys_values = self.kv_b_proj(latent).unflatten(2, (self.heads, self.nope_dim + self.value_dim))
        k_nope, v = keys_values.split((self.nope_dim, self.value_dim), dim=-1)
        k = torch.cat((k_nope, k_rope.expand(-1, -1, self.heads, -1)), dim=-1)  # (4)
        q = torch.cat((q_nope, q_rope), dim=-1)  # (9)
        return scaled_dot_product_attention(q, k, v, context, self.scale)  # (10)

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, entries: Tensor, context: Context) -> Tensor:
        """The same over latents `[B, T, rank + rope]`, which all heads share, as in multi-query attention:

        q . (W_key latent) = (W_key^T q) . latent,    sum of a_t (W_value latent_t) = W_value (sum of a_t latent_t)
        """
        # The halves of one matrix that is never multiplied whole here: so the numbers themselves are asked for.
        weight = (
            dense(self.kv_b_proj.weight).to(q_nope.dtype).view(self.heads, self.nope_dim + self.value_dim, self.rank)
        )
        w_key, w_value = weight.split((self.nope_dim, self.value_dim), dim=1)
        q_latent = torch.einsum("blhn,hnr->blhr", q_nope, w_key)
        q = torch.cat((q_latent, q_rope), dim=-1).to(entries.dtype)
        keys = entries[:, :, None]
        values = keys[..., : self.rank]
        out = scaled_dot_product_attention(q, keys, values, context, self.scale)
        return torch.einsum("blhr,hvr->blhv", out.to(q_latent.dtype), w_value)


class GroupedQueryAttention(nn.Module):
    """Attention whose groups of query heads share a key-value head (arXiv 2305.13245)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        )  # fmt: skip
        self.scale = config.softmax_scale
        hidden, bias = config.hidden_size, config.attention_bias
        self.q_proj = Linear(hidden, self.heads * self.head_dim, bias=bias)
        self.k_proj = Linear(hidden, self.kv_heads * self.head_dim, bias=bias)
        self.v_proj = Linear(hidden, self.kv_heads * self.head_dim, bias=bias)
        self.o_proj = Linear(self.heads * self.head_dim, hidden, bias=config.output_bias)
        self.norms = config.qk_norm
        if self.norms:
            self.q_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)
            self.k_norm = RMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        q, k, v = project(x, self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (part.unflatten(2, (-1, self.head_dim)) for part in (q, k, v))
        if self.norms:
            q, k = self.q_norm(q), self.k_norm(k)
        rotated = rotate(torch.cat((q, k), dim=2), context.cos, context.sin, interleaved=False)
        q, k = rotated.split((self.heads, self.kv_heads), dim=2)
        if context.cache is not None:  # which keeps a token's keys, and behind them its values
            cached = context.cache.update(self.layer, context.unpad(torch.stack((k, v), dim=2)))
            if context.reads_cache:
                k, v = cached.unbind(2)
        out = scaled_dot_product_attention(q.to(k.dtype), k, v, context, self.scale)
        return self.o_proj(out.flatten(2).to(x.dtype))
