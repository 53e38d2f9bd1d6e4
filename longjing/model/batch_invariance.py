"""Arithmetic that gives a token the same bits whatever is computed beside it, in float32 on one thread of a CPU.

Two things depend on the batch elsewhere, and are held fixed here:

- The kernel of a product. With few rows a BLAS takes another one, which rounds differently. So few rows get more
  (`pad_rows`), and what comes of those is dropped (`unpad`).
- The order of a sum. `batch_invariant_attention` writes the scores out and sums in pieces of one size, so that neither
  masked columns nor the length of the pass move a cut.

Whether a processor's products then really treat rows alike is measured: see `batch_invariance_probe.py`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# With fewer rows than this a CPU may multiply by another kernel: a token's result would depend on how many others are
# with it. The longer the rows, the sooner it does so.
MIN_ROWS = 16
# In attention: the longest sum that BLAS takes from the first to the last, and the smallest products that it takes so.
KEY_CHUNK, MIN_KEYS, MIN_QUERIES = 128, 32, 2


def missing_rows(rows: int) -> int:
    """How many rows a product of `rows` rows lacks to be rounded like one of many; of none, there's nothing to pad."""
    return max(0, MIN_ROWS - rows) if rows else 0


def pad_rows(x: Tensor, padding: int, dim: int = 0) -> Tensor:
    """`x` with the last row of dimension `dim` repeated `padding` times.

    A copy of a token takes the way that the token takes, through the same experts: it costs little, and is finite.
    """
    if not padding:
        return x
    shape = [*x.shape]
    shape[dim] = padding
    return torch.cat((x, x.narrow(dim, x.shape[dim] - 1, 1).expand(shape)), dim=dim)


def unpad(x: Tensor, padding: int, dim: int = 0) -> Tensor:
    """`x` without the last `padding` rows of dimension `dim`: the inverse of `pad_rows`."""
    return x.narrow(dim, 0, x.shape[dim] - padding) if padding else x


def batch_invariant_sigmoid(x: Tensor) -> Tensor:
    """The sigmoid of float32 `x`. On a CPU, the last few numbers of a tensor go through another function, which
    rounds differently; in float64 the two agree in all digits that are kept."""
    return x.double().sigmoid().float() if x.device.type == "cpu" else x.sigmoid()


def batch_invariant_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, causal: bool) -> Tensor:
    """Attention with the scores written out: q `[B, L, H, D]`, k `[B, T, K, D]`, v `[B, T, K, V]` -> `[B, L, H, V]`.

    `mask` `[B or 1, 1, L, T]` is added to the scores: 0 or -inf. K divides H: groups of heads share a key. With
    `causal`, a text looks only at itself (L = T), and is taken in pieces, each with what precedes its end: the
    rest is masked.
    """
    (batch, length, heads, _), groups = q.shape, k.shape[2]
    q = (q * scale).unflatten(2, (groups, heads // groups)).transpose(1, 2)
    k, v, mask = k.transpose(1, 2), v.transpose(1, 2), mask.expand(batch, groups, -1, -1)
    # What a cache holds is no batch of matrices at even distances: either its rows are, or the heads of a row.
    axis = 0 if batch <= groups else 1
    outputs = []
    for queries, keys, values, masks in zip(*(x.unbind(axis) for x in (q, k, v, mask)), strict=True):
        if not causal:
            outputs.append(_attend(queries, keys, values, masks))
            continue
        pieces = []
        for start in range(0, length, KEY_CHUNK):
            end = min(start + KEY_CHUNK, length)
            pieces.append(_attend(queries[:, start:end], keys[:, :end], values[:, :end], masks[:, start:end, :end]))
        outputs.append(torch.cat(pieces, dim=1))
    return torch.stack(outputs, axis).transpose(1, 2).flatten(2, 3)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Scaled queries q `[N, L, G, D]` over keys k `[N, T, D]` and values v `[N, T, V]`, mask `[N, L, T]`
    -> `[N, L, G, V]`.

    Each number has to be one sum of fused products, from the first to the last: then masked columns change
    nothing. BLAS adds up so, but for sums longer than `KEY_CHUNK`, for the smallest products and for few rows of
    long queries. The first are cut, the second padded, and the last turned round.
    """
    (_, length, heads, width), columns = q.shape, k.shape[1]
    q = q.flatten(1, 2)
    rows = q.shape[1]
    if rows < MIN_QUERIES:
        q = q.expand(-1, MIN_QUERIES, -1)
    if (missing := MIN_KEYS - columns) > 0:
        k, mask = F.pad(k, (0, 0, 0, missing)), F.pad(mask, (0, missing), value=float("-inf"))
        v = F.pad(v, (0, 0, 0, missing))
    # Few rows of long queries go to a kernel that sums in parts; with the keys as rows there are enough of them.
    scores = torch.bmm(q, k.mT) if width <= 16 * q.shape[1] else torch.bmm(k, q.mT).mT
    scores = (scores.unflatten(1, (length, -1)) + mask[:, :, None]).flatten(1, 2)
    # A softmax goes row by row, and masked columns add zeros at its end: it needs no care.
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    size = KEY_CHUNK if q.device.type == "cpu" else v.shape[1]  # elsewhere nothing is promised, and one sum is faster
    total: Tensor | None = None
    for weight, value in zip(weights.split(size, dim=2), v.split(size, dim=1), strict=True):
        if (missing := MIN_KEYS - value.shape[1]) > 0:
            weight, value = F.pad(weight, (0, missing)), F.pad(value, (0, 0, 0, missing))
        # On a CPU pieces begin at multiples of one size whatever the length: a longer pass only adds zeros behind.
        product = torch.bmm(weight, value)
        total = product if total is None else total + product
    assert total is not None
    return total[:, :rows].unflatten(1, (length, heads))
