"""In float32 on the CPU a token's result doesn't depend on its batch, and the trainer's equals the engine's.

Rounding-sized differences are what this is about: every product, sum and function has to treat a row alike however many
rows are with it. A wide residual stream, as a trained model has, would show the smallest deviation.
"""

import pytest
import torch

from longjing.engine.engine import Engine
from longjing.engine.request import Request, Sampling
from longjing.learning.objectives import token_logprobs
from longjing.learning.rollouts import pad
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder

LATENT = ModelConfig(
    "deepseek_v3", vocab_size=256, hidden_size=128, intermediate_size=384, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16,
    v_head_dim=32, first_k_dense_replace=1, n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2,
    moe_intermediate_size=96,
)  # fmt: skip
QWEN = ModelConfig("qwen2", 256, 128, 384, 3, 4, 2, attention_bias=True)
LLAMA = ModelConfig("llama", 256, 128, 384, 3, 8, 8, head_dim=24)
WIDE = ModelConfig("llama", 256, 384, 384, 2, 8, 2, head_dim=128)
CONFIGS = {"latent": LATENT, "qwen": QWEN, "llama": LLAMA, "wide": WIDE}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Decoder:
    model = Decoder(CONFIGS[request.param]).initialise(0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= 5
    return model


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Completions that end at very different lengths, so that the batch shrinks to one, across a chunk's border."""
    return [
        Request([(7 * i + j) % 256 for j in range(5 + i)], Sampling(seed=i, max_tokens=6 * i + 1))
        for i in range(24)
    ]


def test_the_trainer_computes_what_the_engine_sampled_with(model: Decoder, requests: list[Request]) -> None:
    generations = Engine(model, None, record_routes=True).generate(requests)
    padded = pad(generations, 0, torch.device("cpu"))
    positions = torch.arange(padded.tokens.shape[1]).expand_as(padded.tokens)
    with torch.no_grad():
        hidden = model.hidden(padded.tokens, model.context(positions, replay=padded.routes, exact=True))
        logits = model.head(hidden[:, :-1][padded.sampled])
    found = token_logprobs(logits, padded.tokens[:, 1:][padded.sampled])
    assert (found - padded.old_logprobs[padded.sampled]).abs().max() < 1e-6


@pytest.mark.parametrize("max_batch", [1, 3, 7])
def test_the_batch_does_not_show(model: Decoder, requests: list[Request], max_batch: int) -> None:
    alone = Engine(model, None, max_batch=max_batch).generate(requests)
    crowd = Engine(model, None).generate(requests)
    assert [g.tokens for g in alone] == [g.tokens for g in crowd]
    worst = max(abs(a - b) for one, other in zip(alone, crowd, strict=True)
                for a, b in zip(one.logprobs, other.logprobs, strict=True))  # fmt: skip
    assert worst < 1e-6
