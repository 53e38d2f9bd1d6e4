"""The counts against the network itself, PyTorch's own counter, and what is published of DeepSeek-V3."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from longjing.model import batch_invariance
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.planning import flops

V3 = ModelConfig(
    "deepseek_v3", vocab_size=129280, hidden_size=7168, intermediate_size=18432, num_hidden_layers=61,
    num_attention_heads=128, num_key_value_heads=128, q_lora_rank=1536, kv_lora_rank=512,
    qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, first_k_dense_replace=3,
    n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=2048,
    n_group=8, topk_group=4, num_nextn_predict_layers=1,
)  # fmt: skip


@st.composite
def latent_configs(draw) -> ModelConfig:
    """Tiny DeepSeek-V3s. Values are as wide as keys: narrower ones are padded for PyTorch's attention, which
    a counter sees and an algorithm doesn't need."""
    nope, rope = draw(st.sampled_from([4, 8, 12])), draw(st.sampled_from([2, 8]))
    return ModelConfig(
        "deepseek_v3",
        vocab_size=draw(st.integers(5, 90)),
        hidden_size=draw(st.integers(3, 40)),
        intermediate_size=draw(st.integers(3, 60)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=draw(st.integers(1, 4)),
        num_key_value_heads=1,
        q_lora_rank=draw(st.sampled_from([None, 7])),
        kv_lora_rank=draw(st.integers(2, 20)),
        qk_nope_head_dim=nope,
        qk_rope_head_dim=rope,
        v_head_dim=nope + rope,
        first_k_dense_replace=draw(st.integers(0, 2)),
        n_routed_experts=draw(st.sampled_from([0, 4, 6])),
        n_shared_experts=draw(st.integers(1, 2)),
        num_experts_per_tok=draw(st.integers(1, 3)),
        moe_intermediate_size=draw(st.integers(2, 20)),
        attention_bias=draw(st.booleans()),
        num_nextn_predict_layers=draw(st.integers(0, 2)),
    )


@st.composite
def dense_configs(draw) -> ModelConfig:
    groups, kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return ModelConfig(
        draw(st.sampled_from(["qwen2", "llama"])),
        vocab_size=draw(st.integers(5, 90)),
        hidden_size=draw(st.integers(3, 40)),
        intermediate_size=draw(st.integers(3, 60)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=groups * kv_heads,
        num_key_value_heads=kv_heads,
        head_dim=draw(st.sampled_from([2, 8])),
        tie_word_embeddings=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
        output_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
    )


CONFIGS = latent_configs() | dense_configs()


@pytest.fixture(autouse=True, scope="module")
def nothing_filled_up():
    """What the network multiplies beyond need, so that rounding doesn't show the batch, is left out here."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MIN_ROWS", "MIN_KEYS", "MIN_QUERIES"):
            patch.setattr(batch_invariance, name, 1)
        yield


def counted(work) -> int:
    """FLOPs as PyTorch counts them, which knows only the plain attention on a CPU: the whole square."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        work()
    return counter.get_total_flops()


def tokens_of(config: ModelConfig, batch: int, length: int) -> torch.Tensor:
    return torch.randint(config.vocab_size, (batch, length), generator=torch.Generator().manual_seed(0))


@given(CONFIGS)
@settings(max_examples=20, deadline=None)
def test_parameters_are_those_of_the_network(config):
    model = Decoder(config)
    assert flops.parameters(config) == sum(p.numel() for p in model.parameters())
    assert flops.active_parameters(config) == model.active_parameters()


@given(CONFIGS, st.integers(1, 2), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_forward_is_what_pytorch_counts(config, batch, length):
    model, tokens = Decoder(config).initialise(0), tokens_of(config, batch, length)
    expected = batch * length * flops.forward(config, length)
    assert counted(lambda: model(tokens)) == expected


class Memory:
    """A cache that only appends."""

    def __init__(self, layers: int) -> None:
        self.entries: list[torch.Tensor | None] = [None] * layers

    def update(self, layer: int, entries: torch.Tensor) -> torch.Tensor:
        before = self.entries[layer]
        self.entries[layer] = entries if before is None else torch.cat((before, entries), dim=1)
        return self.entries[layer]


@given(CONFIGS, st.integers(1, 6), st.lists(st.integers(1, 4), min_size=1, max_size=2))
@settings(max_examples=20, deadline=None)
def test_generation_is_what_pytorch_counts_and_the_cache_as_large_as_said(config, prompt, lengths):
    """The prompt once, its last hidden state through the head, then token by token with absorbed attention.
    The counter's attention over the prompt is the whole square, of which half is needed."""
    model, memories = Decoder(config).initialise(0), []

    @torch.no_grad()
    def generate() -> None:
        memory = Memory(config.num_hidden_layers)
        positions = torch.arange(prompt)[None]
        hidden = model.hidden(tokens_of(config, 1, prompt), model.context(positions, None, memory))
        model.head(hidden[:, -1])
        for length in lengths:
            own = Memory(config.num_hidden_layers)
            own.entries = list(memory.entries)
            for step in range(length - 1):
                sees_all = torch.ones(1, 1, 1, prompt + step + 1, dtype=torch.bool)
                context = model.context(torch.tensor([[prompt + step]]), sees_all, own, reads_cache=True)
                model.head(model.hidden(tokens_of(config, 1, 1), context))
            memories.append(own)

    square = prompt * (flops.forward(config, prompt) - flops.forward(config, (prompt + 1) / 2))
    assert counted(generate) == flops.generation(config, prompt, lengths) + square
    for memory, length in zip(memories, lengths, strict=True):
        stored = sum(entries.nbytes for entries in memory.entries)
        assert stored == (prompt + length - 1) * flops.cache_bytes(config, width=4)


@given(CONFIGS)
@settings(max_examples=15, deadline=None)
def test_training_is_three_times_forward_as_pytorch_counts(config):
    """Everything needs gradients, even the embeddings. The counter's attention is the whole square."""
    length = 8
    model, tokens = Decoder(config).initialise(0), tokens_of(config, 2, length)
    assert counted(lambda: model(tokens).sum().backward()) == pytest.approx(
        tokens.numel() * 3 * flops.forward(config, length), rel=0.01
    )
    half = 3 * flops.forward(config, (length + 1) / 2)
    assert flops.training(config, length) == half


@given(latent_configs())
@settings(max_examples=15, deadline=None)
def test_prediction_modules_cost_what_pytorch_counts(config):
    model, tokens = Decoder(config).initialise(0), tokens_of(config, 2, 8)
    context = model.context(torch.arange(8).expand(2, 8))
    hidden = torch.zeros(2, 8, config.hidden_size)

    def predict() -> None:
        for depth in range(config.num_nextn_predict_layers):
            model.head(model.next_hidden(depth, tokens, hidden, context))

    # A length of 15 has a mean context of 8, which is what the counter's square over 8 tokens comes to.
    extra = flops.training(config, 15, mtp=True) - flops.training(config, 15)
    assert 3 * counted(predict) == pytest.approx(16 * extra)


def test_deepseek_v3_has_the_size_its_authors_publish():
    """Technical report (arXiv 2412.19437): 671B in all, 37B active; its weights' README: 11.5B for MTP."""
    main = ModelConfig(**{**vars(V3), "num_nextn_predict_layers": 0})
    assert flops.parameters(main) / 1e9 == pytest.approx(671, abs=0.5)
    assert flops.active_parameters(V3) / 1e9 == pytest.approx(37, abs=0.6)
    assert (flops.parameters(V3) - flops.parameters(main)) / 1e9 == pytest.approx(11.5, rel=0.015)
    assert flops.cache_bytes(V3, width=2) == 70_272
    with torch.device("meta"):
        network = Decoder(V3)
    assert flops.parameters(V3) == sum(p.numel() for p in network.parameters())
    assert flops.active_parameters(V3) == network.active_parameters()


def test_absorbed_attention_costs_more_arithmetic_per_token_of_context_and_reads_far_less():
    assert flops.forward(V3, 4096, absorbed=True) > flops.forward(V3, 4096)
    expanded = 2 * 61 * 128 * (128 + 64 + 128)  # 5.0 MB
    assert expanded > 70 * flops.cache_bytes(V3)
