"""The two kinds of attention: latent (DeepSeek-V3) and grouped-query (Qwen2, Llama)."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.config import ModelConfig
from longjing.model.documents import Documents
from longjing.model.layers.rope import rotate

_CHUNK, _FEWEST, _FEWEST_ROWS = 128, 32, 2
_SHORT = 512  # tokens: beyond, writing scores out is no faster even where the fused kernels are slow


class Cache(Protocol):
    """Keeps what attention needs of earlier tokens. Whoever passes it owns its memory and its rows."""

    def update(self, layer: int, entries: Tensor) -> Tensor:
        """Store `entries` `[batch, length, cache_width]` of the new tokens; return `[batch, context, cache_width]`.

        The caller's mask says which of the returned entries each new token may look at.
        """
        ...


@dataclass
class Context:
    """What a forward pass knows beside the hidden states: positions, who sees whom, and the experts' book.

    `cos`, `sin`: `[batch, length, 1, rotary_dim / 2]`. `mask`: bool `[batch, 1, length, context]`, True where
    a token may look, or the same as numbers to be added to the scores (0 and -inf); None means causal over the
    tokens given, which is not enough for whoever reads a cache. With a `cache`, new entries are stored in it;
    `reads_cache` says whether tokens also look at what was there before (decoding) or only at each other
    (the first chunk of a prompt). `documents`: tokens look at what precedes them in their own document, and there
    is no mask. `in_parts`: the scores are written out and summed up in an order that the batch doesn't change, which
    latent attention also does without expanding its latents; see `Decoder.context`.
    `batch_invariant`: products of few rows, which round differently, get more, which nobody sees; for that each
    row's last token is computed again `filled` times.
    `replay`: experts to use instead of choosing, `[batch, length, mixture layers, experts per token]`.
    `routes` and `balance` collect, layer by layer, the experts taken and the sequence-wise balance losses.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None = None
    documents: Documents | None = None
    cache: Cache | None = None
    reads_cache: bool = False
    in_parts: bool = False
    batch_invariant: bool = False
    filled: int = 0
    replay: Tensor | None = None
    routes: list[Tensor] = field(default_factory=list)
    balance: list[Tensor] | None = None

    def fill(self, x: Tensor) -> Tensor:
        """`x` `[batch, length, ...]` with its last token repeated `filled` times."""
        return torch.cat((x, x[:, -1:].expand(-1, self.filled, *x.shape[2:])), dim=1) if self.filled else x

    def cut(self, x: Tensor) -> Tensor:
        """The inverse of `fill`."""
        return x[:, : x.shape[1] - self.filled]


class RMSNorm(nn.RMSNorm):
    """PyTorch's, in any number format. Under autocast the result is in the format of the products that read it:
    converted once, not once by each of them."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` `[..., width]` -> the same shape."""
        kind = x.device.type
        x = F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
        return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def attend(q: Tensor, k: Tensor, v: Tensor, context: Context, scale: float) -> Tensor:
    """Attention of whoever may look at whom: q `[B, L, H, D]`, k `[B, T, K, D]`, v `[B, T, K, V]` -> `[B, L, H, V]`."""
    if context.documents is None:
        return _fused(q, k, v, context.mask, scale)
    documents = context.documents
    parts = zip(documents.gather(q), documents.gather(k), documents.gather(v), strict=True)
    return documents.scatter([_fused(q, k, v, None, scale) for q, k, v in parts], q.shape[:2])


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """PyTorch's fused attention. q `[B, L, H, D]`, k `[B, T, K, D]`, v `[B, T, K, V]` -> `[B, L, H, V]`; K divides H.

    Values narrower than the keys are padded: the fused kernels want one width, and the plain
    one would write out the whole score matrix. Only in bfloat16 on a CPU it is written out, for short texts.
    """
    narrow = q.dtype == torch.bfloat16 or torch.is_autocast_enabled(q.device.type)
    if narrow and q.device.type == "cpu" and k.shape[1] <= _SHORT:
        return _plain(q, k, v, mask, scale)
    width = v.shape[-1]
    if width < q.shape[-1]:
        v = F.pad(v, (0, q.shape[-1] - width))
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(q.dtype)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
        attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=q.shape[2] != k.shape[2],
    )  # fmt: skip
    return out.transpose(1, 2)[..., :width]


def _plain(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """`_fused` by whole products: what the fused kernels do in pieces is too small for a CPU's bfloat16. They
    take 4 times as long for 84 tokens, 1.5 times for 512."""
    batch, length, heads, _ = q.shape
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, float("-inf"))
    q, k, v = (
        x.repeat_interleave(heads // x.shape[2], dim=2).transpose(1, 2).flatten(0, 1) for x in (q, k, v)
    )
    scores = torch.baddbmm(mask.expand(batch, heads, length, -1).flatten(0, 1), q, k.mT, alpha=scale)
    return torch.bmm(scores.softmax(dim=-1), v).unflatten(0, (batch, heads)).transpose(1, 2)


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor, context: Context, scale: float) -> Tensor:
    """`attend` with the same bits for a token whatever is computed beside it, in float32 on one thread of a CPU.

    Shapes as in `attend`. A whole text goes by `_CHUNK` tokens, each part with what precedes its end: the rest
    is masked. The context's mask must be there, in numbers; tokens that are filled up take what the last one takes.
    """
    assert context.mask is not None, "attention in parts needs a mask of numbers"
    q = context.cut(q)
    if not context.reads_cache:
        k, v = context.cut(k), context.cut(v)
    (batch, length, heads, _), groups = q.shape, k.shape[2]
    q = (q * scale).unflatten(2, (groups, heads // groups)).transpose(1, 2)
    k, v, mask = k.transpose(1, 2), v.transpose(1, 2), context.mask.expand(batch, groups, -1, -1)
    # What a cache holds is no batch of matrices at even distances: either its rows are, or the heads of a row.
    axis = 0 if batch <= groups else 1
    outs = []
    for one in zip(*(x.unbind(axis) for x in (q, k, v, mask)), strict=True):
        if context.reads_cache:
            outs.append(_part(*one))
            continue
        queries, keys, values, masks = one
        ends = [*range(_CHUNK, length, _CHUNK), length]
        parts = zip(queries.split(_CHUNK, dim=1), masks.split(_CHUNK, dim=1), ends, strict=True)
        outs.append(
            torch.cat(
                [_part(q, keys[:, :end], values[:, :end], mask[..., :end]) for q, mask, end in parts], 1
            )
        )
    return context.fill(torch.stack(outs, axis).transpose(1, 2).flatten(2, 3))


def _part(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """What queries take: q `[N, L, G, D]`, scaled, k `[N, T, D]`, v `[N, T, V]`, mask `[N, L, T]` -> `[N, L, G, V]`.

    Each number has to be one sum of fused products, from the first to the last: then masked columns change
    nothing. BLAS adds up so, but for sums longer than `_CHUNK`, for the smallest products and for few rows of
    long queries. The first are cut, the second filled up, and the last turned round.
    """
    (_, length, heads, width), columns = q.shape, k.shape[1]
    q = q.flatten(1, 2)
    rows = q.shape[1]
    if rows < _FEWEST_ROWS:
        q = q.expand(-1, _FEWEST_ROWS, -1)
    if (missing := _FEWEST - columns) > 0:
        k, mask = F.pad(k, (0, 0, 0, missing)), F.pad(mask, (0, missing), value=float("-inf"))
        v = F.pad(v, (0, 0, 0, missing))
    scores = torch.bmm(q, k.mT) if width <= 16 * q.shape[1] else torch.bmm(k, q.mT).mT
    scores = (scores.unflatten(1, (length, -1)) + mask[:, :, None]).flatten(1, 2)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    size = _CHUNK if q.device.type == "cpu" else v.shape[1]
    out: Tensor | None = None
    for weight, value in zip(weights.split(size, dim=2), v.split(size, dim=1), strict=True):
        if (missing := _FEWEST - value.shape[1]) > 0:
            weight, value = F.pad(weight, (0, missing)), F.pad(value, (0, 0, 0, missing))
        product = torch.bmm(weight, value)
        out = product if out is None else out + product
    assert out is not None
    return out[:, :rows].unflatten(1, (length, heads))


class LatentAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1; DeepSeek-V3, section 2.1.1).

    Keys and values of all heads are linear in one latent per token, so the latent (and one rotated key
    shared by all heads) is all a cache keeps. For decoding, `kv_b_proj` is absorbed: its key half moves over
    to the query and its value half behind the attention, and heads attend to latents directly.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.rank = config.num_attention_heads, config.kv_lora_rank
        self.nope, self.rope, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.scale, self.interleaved = config.softmax_scale, config.rope_interleave
        hidden, bias, query = config.hidden_size, config.attention_bias, self.heads * (self.nope + self.rope)
        if config.q_lora_rank is None:
            self.q_proj = nn.Linear(hidden, query, bias=False)
        else:
            self.q_a_proj = nn.Linear(hidden, config.q_lora_rank, bias=bias)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, eps=1e-6)
            self.q_b_proj = nn.Linear(config.q_lora_rank, query, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(hidden, self.rank + self.rope, bias=bias)
        self.kv_a_layernorm = RMSNorm(self.rank, eps=1e-6)
        self.kv_b_proj = nn.Linear(self.rank, self.heads * (self.nope + self.value), bias=False)
        self.o_proj = nn.Linear(self.heads * self.value, hidden, bias=config.output_bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        batch, length, _ = x.shape
        q = self.q_proj(x) if hasattr(self, "q_proj") else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.view(batch, length, self.heads, self.nope + self.rope)
        q_nope, q_rope = q.split((self.nope, self.rope), dim=-1)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split((self.rank, self.rope), dim=-1)
        latent = self.kv_a_layernorm(latent)
        q_rope = rotate(q_rope, context.cos, context.sin, self.interleaved)
        k_rope = rotate(k_rope[:, :, None], context.cos, context.sin, self.interleaved)

        entries = torch.cat((latent, k_rope[:, :, 0]), dim=-1)
        if context.cache is not None:
            cached = context.cache.update(self.layer, context.cut(entries))
            entries = cached if context.reads_cache else entries
        if context.in_parts:
            out = self._absorbed(q_nope, q_rope, entries, context)
        else:
            k_nope, v = (
                self.kv_b_proj(latent)
                .view(batch, length, self.heads, self.nope + self.value)
                .split((self.nope, self.value), dim=-1)
            )
            k = torch.cat((k_nope, k_rope.expand(-1, -1, self.heads, -1)), dim=-1)
            out = attend(torch.cat((q_nope, q_rope), dim=-1), k, v, context, self.scale)
        return self.o_proj(out.flatten(2))

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, cached: Tensor, context: Context) -> Tensor:
        """Attention over latents `[B, T, rank + rope]`: all heads share them, as in multi-query attention."""
        w = self.kv_b_proj.weight.view(self.heads, self.nope + self.value, self.rank)
        w_key, w_value = w.split((self.nope, self.value), dim=1)
        q_latent = torch.einsum("blhn,hnr->blhr", q_nope, w_key)
        q = torch.cat((q_latent, q_rope), dim=-1).to(cached.dtype)
        keys = cached[:, :, None]
        out = attend_in_parts(q, keys, keys[..., : self.rank], context, self.scale)
        return torch.einsum("blhr,hvr->blhv", out.to(q_latent.dtype), w_value)


class GroupedQueryAttention(nn.Module):
    """Attention of the dense decoders (arXiv 2305.13245): groups of query heads share a key-value head."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.dim = (
            config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        )  # fmt: skip
        self.scale = config.softmax_scale
        hidden, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(hidden, self.heads * self.dim, bias=bias)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.dim, bias=bias)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.dim, bias=bias)
        self.o_proj = nn.Linear(self.heads * self.dim, hidden, bias=config.output_bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """`x` `[batch, length, hidden]` -> the same shape."""
        batch, length, _ = x.shape
        q = rotate(self.q_proj(x).view(batch, length, self.heads, self.dim), context.cos, context.sin, False)
        k = rotate(
            self.k_proj(x).view(batch, length, self.kv_heads, self.dim), context.cos, context.sin, False
        )
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.dim)
        if context.cache is not None:
            cached = context.cache.update(self.layer, context.cut(torch.cat((k, v), dim=2).flatten(2)))
            if context.reads_cache:
                k, v = cached.view(batch, -1, 2 * self.kv_heads, self.dim).chunk(2, dim=2)
        how = attend_in_parts if context.in_parts else attend
        return self.o_proj(how(q.to(k.dtype), k, v, context, self.scale).flatten(2).to(x.dtype))
