"""Whether this machine's products give a row the same bits however many rows are with it.

That is a property of a BLAS on a processor, not of this code: most libraries choose a kernel by the number of rows,
and two kernels may add up in another order. Where products are row-invariant, `batch_invariance.py` makes a token's
results independent of its batch; where they aren't, they differ by rounding. So it is measured.
"""

from functools import cache

import torch
from torch import Tensor

from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder

_LENGTH = 140  # tokens: more than attention takes in one piece (`KEY_CHUNK`)
_SHAPES = ((1, 1), (1, 2), (3, 5), (15, 1), (17, 1), (2, 33), (1, 129))  # of rows and tokens
_DECODED = (1, 2, 15, 31, 33, 127, 128, 129, 139)  # positions
_LATENT = ModelConfig(
    "deepseek_v3", vocab_size=256, hidden_size=128, intermediate_size=384, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16,
    v_head_dim=32, first_k_dense_replace=1, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
    moe_intermediate_size=96,
)  # fmt: skip
_DENSE = ModelConfig("qwen2", 512, 384, 1536, 2, 8, 2, head_dim=64, attention_bias=True)


class _GrowingCache:
    """A cache for one text: everything so far, concatenated."""

    def __init__(self) -> None:
        self._layers: dict[int, Tensor] = {}

    def update(self, layer: int, entries: Tensor) -> Tensor:
        before = self._layers.get(layer)
        self._layers[layer] = entries if before is None else torch.cat((before, entries), dim=1)
        return self._layers[layer]


@torch.inference_mode()
def is_batch_invariant(model: Decoder) -> bool:
    """Whether, with the present number of threads, tokens get the same bits alone, in a crowd, and decoded one by one:
    tried with the model on a text of its own vocabulary. Leaves the model as it is."""
    generator = torch.Generator().manual_seed(0)
    device = model.embed_tokens.weight.device
    tokens = torch.randint(model.config.vocab_size, (17, _LENGTH), generator=generator).to(device)
    positions = torch.arange(_LENGTH, device=device).expand_as(tokens)

    def logits(rows: int, length: int) -> Tensor:
        context = model.context(positions[:rows, :length], batch_invariant=True)
        return model.head(model.hidden(tokens[:rows, :length], context), context)

    expected = logits(17, _LENGTH)
    if not all(torch.equal(logits(*shape), expected[: shape[0], : shape[1]]) for shape in _SHAPES):
        return False
    for index in _DECODED:  # the first `index` tokens are read at once, and the next one is decoded
        cache, position = _GrowingCache(), slice(index, index + 1)
        prompt = model.context(positions[:1, :index], cache=cache, batch_invariant=True)
        model.hidden(tokens[:1, :index], prompt)
        mask = torch.ones(1, 1, 1, index + 1, dtype=torch.bool, device=device)
        context = model.context(positions[:1, position], mask, cache, reads_cache=True, batch_invariant=True)
        decoded = model.head(model.hidden(tokens[:1, position], context), context)
        if not torch.equal(decoded, expected[:1, position]):
            return False
    return True


def products_are_batch_invariant() -> bool:
    """`is_batch_invariant` of two small networks, one with latent attention and experts, one dense: what this machine
    offers with the present number of threads. Takes a fraction of a second, once."""
    return _measured(torch.get_num_threads())


@cache
def _measured(threads: int) -> bool:
    return all(is_batch_invariant(Decoder(config).initialise(0).eval()) for config in (_LATENT, _DENSE))


def describe_batch_invariance() -> str:
    """One sentence for people: what `products_are_batch_invariant` found."""
    threads = torch.get_num_threads()
    where = "on one thread" if threads == 1 else f"on {threads} threads"
    if products_are_batch_invariant():
        return f"{where} a token's bits don't depend on what is computed beside it (tried with two small networks)"
    return (
        f"{where} a token's bits depend on what is computed beside it, as far as rounding goes: this machine's matrix "
        "products add up in another order where rows are few"
    )
