"""The one place where generators are made."""

from collections.abc import Collection
from typing import Literal

import torch

from longjing.generation.native.engine import Engine
from longjing.model.decoder import Decoder
from longjing.text.tokenizer import Tokenizer


def make_generator(
    model: Decoder,
    tokenizer: Tokenizer | None,
    *,
    training: bool = False,
    dtype: torch.dtype | None = None,
    cache_bytes: int = 1 << 30,
    max_batch: int = 256,
    threads: int | None = None,
    speculate: bool | Literal["auto"] = False,
    end_tokens: Collection[int] | None = None,
    prefix_bytes: int = 0,
) -> Engine:
    """A generator for the model: the native engine, the only one so far. Settings as in `Engine`.

    `training`: a trainer reads what is sampled. Experts are recorded for it, and a token's bits don't depend on the
    batch. Whoever needs no streams and no steps should know the result as a `Generator` only.
    """
    return Engine(
        model, tokenizer, cache_bytes=cache_bytes, max_batch=max_batch, record_routes=training,
        batch_invariant=True if training else None, threads=threads, speculate=speculate, end_tokens=end_tokens,
        dtype=dtype, prefix_bytes=prefix_bytes,
    )  # fmt: skip
