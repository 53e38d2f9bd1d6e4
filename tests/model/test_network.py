"""Properties of the network that need no second implementation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import V3, YARN, batch, deepseek, dense, difference, network
from torch import Tensor

from longjing.errors import UserError
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.layers.router import Router, balance_loss

KINDS = [
    deepseek(), deepseek(q_lora_rank=10, n_group=4, topk_group=2, rope_parameters=YARN), dense("qwen2"),
    dense("llama"),
]  # fmt: skip
quick = settings(max_examples=30, deadline=None, derandomize=True)


def test_the_constants_of_deepseek_v3() -> None:
    config = ModelConfig.from_dict(V3)
    assert config.softmax_scale == pytest.approx(0.13523, abs=5e-6)
    assert config.cache_width == 576
    with torch.device("meta"):
        model = Decoder(config)
    assert model.rope_magnitude == 1.0  # mscale is in the softmax scale, and not a second time here
    main = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("mtp."))
    assert round(main / 1e9) == 671
    assert 37e9 < model.active_parameters() < 38e9


@pytest.mark.parametrize("shape", KINDS)
@torch.no_grad()
def test_packed_documents_are_as_good_as_alone(shape: dict[str, object]) -> None:
    model = network(shape)
    lengths = [5, 1, 40, 7, 33, 32]
    tokens = batch(model, rows=1, length=sum(lengths))
    segments = torch.repeat_interleave(torch.arange(6), torch.tensor(lengths))[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packed = model(tokens, positions, segments)
    alone = torch.cat([model(part) for part in tokens.split(lengths, dim=1)], dim=1)
    assert difference(packed, alone) < 2e-5
    assert difference(packed, model(tokens)) > 1e-2


@pytest.mark.parametrize("shape", KINDS)
@torch.no_grad()
def test_no_token_sees_a_later_one(shape: dict[str, object]) -> None:
    model = network(shape)
    tokens = batch(model)
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % model.config.vocab_size
    before, after = model(tokens), model(changed)
    assert difference(before[:, :10], after[:, :10]) < 1e-5
    assert difference(before[:, 10], after[:, 10]) > 1e-2


@torch.no_grad()
def test_replaying_the_routes_changes_nothing_and_other_routes_do() -> None:
    model = network(deepseek(num_hidden_layers=3, n_group=2))
    tokens = batch(model)
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    context = model.context(positions)
    logits = model.head(model.hidden(tokens, context))
    routes = torch.stack(context.routes, dim=2)
    assert routes.shape == (*tokens.shape, 2, model.config.num_experts_per_tok)
    assert torch.equal(model(tokens, replay=routes), logits)
    assert difference(model(tokens, replay=(routes + 1) % 8), logits) > 1e-2


def one_hot_router(experts: int) -> Router:
    """A router whose scores are those of its input: one number for each expert."""
    config = ModelConfig.from_dict(deepseek(hidden_size=experts, n_routed_experts=experts))
    router = Router(config)
    router.weight.data = torch.eye(experts)
    return router


@quick
@given(st.lists(st.integers(0, 9), min_size=4, max_size=12), st.floats(1e-4, 0.1))
def test_rebalancing_moves_each_bias_towards_an_even_load(load: list[int], speed: float) -> None:
    router = one_hot_router(len(load))
    router.load += torch.tensor(load)
    router.rebalance(speed)
    mean = sum(load) / len(load)
    for count, bias in zip(load, router.e_score_correction_bias.tolist(), strict=True):
        direction = (count < mean) - (count > mean)
        assert bias == pytest.approx(direction * speed, rel=1e-5) or abs(count - mean) < 1e-5
    assert not router.load.any()


def test_rebalancing_evens_out_a_skewed_router() -> None:
    router = one_hot_router(8)
    generator = torch.Generator().manual_seed(0)

    def loads() -> Tensor:
        x = torch.randn(400, 8, generator=generator) + torch.linspace(-1, 1, 8)
        return torch.bincount(router.choose(router.scores(x)).flatten(), minlength=8).float()

    before = loads()
    for _ in range(200):
        router.load += loads()
        router.rebalance(0.01)
    after = loads()
    assert before.max() / before.mean() > 1.8
    assert after.max() / after.mean() < 1.2


def test_the_load_counts_training_only() -> None:
    model = network(deepseek())
    tokens = batch(model)
    model(tokens)
    assert all(not router.load.any() for router in model.routers())
    model.train()(tokens)
    loads = [router.load.sum().item() for router in model.routers()]
    assert loads == [tokens.numel() * model.config.num_experts_per_tok, 0]  # the second is the MTP module's


@quick
@given(st.integers(1, 3), st.integers(1, 6), st.integers(2, 5), st.integers(0, 1000))
def test_balance_loss_is_the_papers_sum(rows: int, length: int, experts: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, length, experts, generator=generator) + 0.01
    per_token = 1 + seed % (experts - 1)
    chosen = scores.topk(per_token).indices
    total = 0.0
    for row in range(rows):
        for expert in range(experts):
            taken = sum(expert in chosen[row, token].tolist() for token in range(length))
            frequency = experts / (per_token * length) * taken
            shares = [scores[row, t, expert] / scores[row, t].sum() for t in range(length)]
            total += frequency * float(sum(shares)) / length
    assert balance_loss(scores, chosen).item() == pytest.approx(total / rows, rel=1e-4)


def test_balance_loss_reaches_the_routers_weights() -> None:
    model = network(deepseek())
    tokens = batch(model)
    context = model.context(torch.arange(tokens.shape[1]).expand_as(tokens))
    context.balance = []
    model.hidden(tokens, context)
    (loss,) = context.balance
    loss.backward()
    assert loss > 0.5
    assert next(model.routers()).weight.grad.abs().max() > 1e-4


@pytest.mark.parametrize("shape", KINDS)
def test_a_seed_is_a_network(shape: dict[str, object]) -> None:
    first, again, other = (Decoder(ModelConfig.from_dict(shape)).initialise(seed) for seed in (0, 0, 1))
    for (name, a), b, c in zip(first.named_parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.dim() == 1 or not torch.equal(a, c), name
        assert a.isfinite().all(), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"num_attention_heads": 3}, "num_key_value_heads"),
        ({"n_group": 3}, "n_group"),
        ({"n_group": 8}, "two experts"),
        ({"topk_group": 2}, "topk_group"),
        ({"num_experts_per_tok": 9}, "num_experts_per_tok"),
        ({"scoring_func": "tanh"}, "scoring_func"),
        ({"qk_rope_head_dim": 5}, "even"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"norm_topk_prob": "yes"}, "norm_topk_prob = 'yes'"),
        ({"hidden_size": None}, "hidden_size is missing"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelConfig.from_dict(deepseek(**changes))
