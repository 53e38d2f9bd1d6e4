"""The network against `transformers`, over configurations drawn at random, in float32."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_cases import (
    YARN,
    batch,
    deepseek,
    deepseek_v2s,
    deepseeks,
    dense,
    denses,
    difference,
    fresh_twin,
    mixtures,
    network,
    qwen3_moes,
    twin,
)  # fmt: skip
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_layers import MtpModel

from longjing.model.decoder import Decoder
from longjing.model.layers.context import Cache
from longjing.model.store.checkpoint import load_model

TOLERANCE = 5e-5  # logits reach 6 and the worst seen is 1.5e-5; the aim is 1e-4
few = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
fewer = settings(few, max_examples=4)
# Every kind for itself, so that each is drawn as often.
KINDS = {
    "deepseek_v3": deepseeks(), "qwen2": denses("qwen2"), "qwen3": denses("qwen3"), "llama": denses("llama"),
    "mistral": denses("mistral"), "glm4_moe": mixtures(), "qwen3_moe": qwen3_moes(), "deepseek_v2": deepseek_v2s(),
}  # fmt: skip
of_every_kind = pytest.mark.parametrize("kind", KINDS)


class GrowingCache:
    """The plainest thing that satisfies `Cache`: everything so far, concatenated."""

    def __init__(self) -> None:
        self.kept: dict[int, Tensor] = {}

    def update(self, layer: int, entries: Tensor) -> Tensor:
        before = self.kept.get(layer)
        self.kept[layer] = entries if before is None else torch.cat((before, entries), dim=1)
        return self.kept[layer]


def step(model: Decoder, tokens: Tensor, start: int, cache: Cache) -> Tensor:
    """The logits of `tokens` that follow `start` cached ones; with MLA this path is the absorbed one."""
    positions = torch.arange(start, start + tokens.shape[1]).expand_as(tokens)
    seen = torch.arange(start + tokens.shape[1])
    mask = (seen <= positions[:, :, None])[:, None]
    context = model.context(positions, mask, cache, reads_cache=True)
    return model.head(model.hidden(tokens, context))


@of_every_kind
@few
@given(st.data(), st.integers(0, 1000))
@torch.no_grad()
def test_forward_and_incremental_logits_equal_those_of_transformers(kind: str, data: st.DataObject, seed: int) -> None:
    shape = data.draw(KINDS[kind])
    model = network(shape, seed)
    tokens = batch(model, seed=seed)
    with tempfile.TemporaryDirectory() as directory:
        theirs = twin(model, Path(directory))(tokens).logits
    assert theirs.std() > 0.1
    assert difference(model(tokens), theirs) < TOLERANCE

    cache = GrowingCache()
    chunks = [step(model, tokens[:, :5], 0, cache), step(model, tokens[:, 5:16], 5, cache)]
    chunks += [step(model, tokens[:, i : i + 1], i, cache) for i in range(16, tokens.shape[1])]
    assert difference(torch.cat(chunks, dim=1), theirs) < TOLERANCE
    assert {entries.shape[2:].numel() for entries in cache.kept.values()} == {model.config.cache_width}


@of_every_kind
@fewer
@given(st.data())
@torch.no_grad()
def test_what_transformers_saves_loads_and_computes_the_same(kind: str, data: st.DataObject) -> None:
    shape = data.draw(KINDS[kind])
    torch.manual_seed(0)
    theirs = fresh_twin(shape)
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory, max_shard_size="20KB")
        assert (Path(directory) / "model.safetensors.index.json").exists()
        model = load_model(directory)
    tokens = batch(model)
    assert difference(model(tokens), theirs(tokens).logits) < TOLERANCE


@of_every_kind
@fewer
@given(st.data())
def test_gradients_equal_those_of_transformers(kind: str, data: st.DataObject) -> None:
    model = network(data.draw(KINDS[kind]))
    with tempfile.TemporaryDirectory() as directory:
        other = twin(model, Path(directory))
    tokens = batch(model)
    for logits in (model(tokens), other(tokens).logits):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    theirs = {name.removeprefix("model."): p.grad for name, p in other.named_parameters()}
    ours = {name: p.grad for name, p in model.named_parameters() if not name.startswith("mtp.")}
    assert set(ours) == set(theirs)
    for name, gradient in ours.items():
        # An expert that no token chose has a zero gradient here and may have none there.
        expected = torch.zeros_like(gradient) if theirs[name] is None else theirs[name]
        assert difference(gradient, expected) < TOLERANCE, name
    assert max(gradient.abs().max() for gradient in ours.values()) > 1e-2


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_mtp_logits_equal_those_of_transformers(tied: bool, tmp_path: Path) -> None:
    model = network(deepseek(num_nextn_predict_layers=2, tie_word_embeddings=tied, rope_parameters=YARN))
    other = twin(model, tmp_path)
    theirs = MtpModel(other, 2)
    own = {
        name.replace("mtp.", "layers.").replace(".block.", ".mtp_block.").replace("0.norm.", "0.post_norm.")
        .replace("1.norm.", "1.post_norm."): tensor
        for name, tensor in model.state_dict().items()
        if name.startswith("mtp.")
    }  # fmt: skip
    missing, unexpected = theirs.load_state_dict(own, strict=False)
    assert not unexpected and all(name.startswith(("embed_tokens", "shared_head")) for name in missing)
    tokens = batch(model)
    positions = torch.arange(tokens.shape[1] - 2).expand(2, -1)
    context = model.context(positions)
    hidden = model.hidden(tokens[:, :-2], context)
    their_hidden = other.model(tokens[:, :-2]).last_hidden_state
    for depth in range(2):
        following = tokens[:, 1 + depth : tokens.shape[1] - 1 + depth]
        hidden = model.next_hidden(depth, following, hidden, context)
        their_hidden = theirs.forward_layer(depth, their_hidden, positions, None, input_ids=following)
        assert difference(model.head(hidden), theirs.shared_head(their_hidden)) < TOLERANCE
    assert model.head(hidden).std() > 0.1


@torch.no_grad()
def test_losing_groups_never_win_even_when_every_biased_score_is_negative(tmp_path: Path) -> None:
    """Older releases of transformers masked losing groups with 0, which beats a negative score; the installed
    one and DeepSeek's inference code mask with -inf, as we do. With positive scores the two agree."""
    shape = deepseek(n_group=4, topk_group=2, num_experts_per_tok=4, first_k_dense_replace=0)
    for bias, agree in ((-3.0, False), (3.0, True)):
        model = network(shape, bias=bias)
        other = twin(model, tmp_path)
        router, theirs = next(model.routers()), other.model.layers[0].mlp.gate
        x = torch.randn(50, 32, generator=torch.Generator().manual_seed(0))
        scores = router.scores(x)
        chosen = router.choose(scores)
        assert torch.equal(chosen.sort().values, theirs(x)[2].sort().values)

        biased = scores + router.e_score_correction_bias
        groups = biased.view(50, 4, 2).sum(dim=-1).topk(2).indices
        assert (chosen[:, :, None] // 2 == groups[:, None, :]).any(dim=-1).all()
        kept = torch.zeros(50, 4).scatter_(1, groups, 1.0).repeat_interleave(2, dim=1)
        with_zeros = (biased * kept).topk(4).indices
        assert torch.equal(chosen.sort().values, with_zeros.sort().values) is agree


@pytest.mark.parametrize("shape", [deepseek(), deepseek(q_lora_rank=10), dense("qwen2")])
@torch.no_grad()
def test_bfloat16_stays_near_float32(shape: dict[str, Any], tmp_path: Path) -> None:
    model = network(shape, bias=0.0)
    twin(model, tmp_path)
    half = load_model(tmp_path, dtype=torch.bfloat16)
    tokens = batch(model)
    ours = half(tokens)
    assert ours.dtype == torch.bfloat16
    agreement = torch.cosine_similarity(ours.float(), model(tokens), dim=-1)
    assert agreement.mean() > 0.98
