"""Attention and the feed-forward part are two independent facts; a family says which of the pairs it can write down."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from model_cases import batch, deepseek, dense, mixture, network
from torch.nn import functional as F

from longjing.errors import UserError
from longjing.generation.native.engine import Engine
from longjing.generation.request import Request, Sampling
from longjing.learning.optimizers import muon
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.layers.attention import GroupedQueryAttention, LatentAttention
from longjing.model.layers.mlp import MLP
from longjing.model.layers.moe import MixtureOfExperts
from longjing.model.store.checkpoint import load_model, save_model

EXPERTS = {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 4}


@pytest.mark.parametrize(
    ("shape", "attention", "feed_forward"),
    [
        (deepseek(), LatentAttention, MixtureOfExperts),
        (deepseek(n_routed_experts=0, num_experts_per_tok=0), LatentAttention, MLP),
        (mixture(), GroupedQueryAttention, MixtureOfExperts),
        (mixture(n_routed_experts=0, num_experts_per_tok=0), GroupedQueryAttention, MLP),
        (dense("llama"), GroupedQueryAttention, MLP),
    ],
)
def test_the_config_says_both_and_comes_back(shape: dict[str, Any], attention: type, feed_forward: type) -> None:
    config = ModelConfig.from_dict(shape)
    last = Decoder(config).layers[-1]
    assert isinstance(last.self_attn, attention) and isinstance(last.mlp, feed_forward)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@torch.no_grad()
def test_a_mixture_with_grouped_query_attention_decodes_drafts_and_comes_back(tmp_path: Path) -> None:
    model = network(mixture())
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config
    assert torch.equal(again(batch(model)), model(batch(model)))
    requests = [Request([3, 1, 4, 1 + i], Sampling(temperature=0.0, max_tokens=9)) for i in range(5)]
    for speculate in (False, True):
        for generation in Engine(again, None, record_routes=True, speculate=speculate).generate(requests):
            text = [*generation.prompt, *generation.tokens]
            likeliest = model(torch.tensor([text]))[0, len(generation.prompt) - 1 : -1].argmax(-1)
            assert generation.tokens == likeliest.tolist()
            assert generation.routes is not None and generation.routes.shape == (len(text) - 1, 1, 3)


def test_a_mixture_with_grouped_query_attention_learns() -> None:
    model = Decoder(ModelConfig.from_dict(mixture())).initialise(0).train()
    optimizers, tokens, losses = muon(model, 0.02, 0.003, 0.0), batch(model), []
    for _ in range(30):
        loss = F.cross_entropy(model(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizers.step()
        model.rebalance(0.001)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(router.e_score_correction_bias.any() for router in list(model.routers())[:1])


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("llama", EXPERTS, "n_routed_experts = 8"),
        ("qwen2", {"num_nextn_predict_layers": 1}, "num_nextn_predict_layers = 1"),
        ("llama", {"output_bias": True}, "output_bias = True"),
        ("qwen2", {"attention_bias": False}, "attention_bias = False"),
    ],
)
def test_what_a_family_has_not_got_can_be_made_and_is_not_written_under_its_name(
    family: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    config = replace(ModelConfig.from_dict(dense(family)), first_k_dense_replace=0, **changes)
    model = Decoder(config).initialise(0)
    assert model(batch(model)).isfinite().all()
    with pytest.raises(UserError, match=f"a {family} can't have .*{words}.*glm4_moe grouped-query"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (dense("llama", n_routed_experts=8, num_experts_per_tok=2), "a llama can't have .*n_routed_experts = 8"),
        (deepseek(kv_lora_rank=0), "kv_lora_rank is missing"),
        (mixture(use_qk_norm=True), "use_qk_norm"),
        (mixture(rope_parameters={"rope_type": "default"}, partial_rotary_factor=0.5), "partial_rotary_factor"),
        (mixture(scoring_func="softmax"), "a glm4_moe can't have scoring_func = 'softmax'"),
        ({**mixture(rope_parameters=None), "partial_rotary_factor": None}, "partial_rotary_factor = 0.5"),
    ],
)
def test_a_config_that_its_family_has_not_got_is_refused(shape: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelConfig.from_dict(shape)
