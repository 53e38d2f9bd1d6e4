"""Softmax attention of given queries, keys and values, by whichever way is right and fast for the pass."""

import torch
from torch import Tensor
from torch.nn import functional as F

from longjing.model.batch_invariance import batch_invariant_attention
from longjing.model.layers.context import Context

COLUMNS = 32  # that AMX adds up together
_FEW = 512  # queries: beyond, writing scores out is no faster even where the fused kernels are slow


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, context: Context, scale: float) -> Tensor:
    """softmax(scale * q k^T) v over what each token may look at.

    q `[B, L, H, D]`, k `[B, T, K, D]`, v `[B, T, K, V]` -> `[B, L, H, V]`. K divides H: groups of heads share a key.
    """
    if context.eager_attention:
        q = context.unpad(q)
        if not context.reads_cache:  # a cache gives no padding back
            k, v = context.unpad(k), context.unpad(v)
        assert context.mask is not None, "scores that are written out need a mask of numbers"
        out = batch_invariant_attention(q, k, v, context.mask, scale, causal=not context.reads_cache)
        return context.pad_rows(out)
    if context.packed is None:
        return _fused(q, k, v, context.mask, scale)
    groups = zip(*map(context.packed.gather, (q, k, v)), strict=True)
    return context.packed.scatter([_fused(q, k, v, None, scale) for q, k, v in groups], q.shape[:2])


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """PyTorch's fused attention, with shapes as above; without a mask causal.

    Values narrower than the keys are padded: the fused kernels want one width, and the plain
    one would write out the whole score matrix. Only in bfloat16 on a CPU it is written out, for few queries.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and q.shape[1] <= _FEW:
        return _written_out(q, k, v, mask, scale)
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


def _written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """`_fused` by whole products: what the fused kernels do in pieces is too small for a CPU's bfloat16. They
    take 4 times as long for 84 tokens, 1.5 times for 512, and 10 times for one query of each of many texts.

    The queries of all heads that share a key are the rows of one product. A row comes out the same, whatever is beside
    it: these products round each number once, and the softmax, in float32 inside, doesn't feel masked columns.
    """
    (batch, length, heads, _), (columns, groups) = q.shape, k.shape[1:3]
    if mask is None:
        mask = torch.ones(length, columns, dtype=torch.bool, device=q.device).tril()
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill_(~mask, float("-inf"))
    q = q.unflatten(2, (groups, heads // groups)).permute(0, 2, 3, 1, 4).flatten(2, 3).flatten(0, 1)
    # Sums over a whole number of `COLUMNS` are cut alike, however many there are.
    k, v, mask = k.transpose(1, 2), v.transpose(1, 2), mask.to(q.dtype)
    if missing := -columns % COLUMNS:
        k, v = (F.pad(x, (0, 0, 0, missing)) for x in (k, v))
        mask = F.pad(mask, (0, missing), value=float("-inf"))
    k, v, mask = k.flatten(0, 1), v.flatten(0, 1), mask.expand(batch, 1, length, -1)
    mask = mask[:, :, None].expand(-1, groups, heads // groups, -1, -1)
    scores = torch.baddbmm(mask.flatten(2, 3).flatten(0, 1), q, k.mT, alpha=scale)
    out = torch.bmm(scores.softmax(dim=-1), v)
    out = out.view(batch, groups, heads // groups, length, -1)
    return out.permute(0, 3, 1, 2, 4).flatten(2, 3)
