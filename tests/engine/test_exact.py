"""In float32 on one thread of a CPU a token's result doesn't depend on its batch; the trainer's equals the engine's.

Rounding-sized differences are what this is about: every product, sum and function has to treat a row alike however many
rows are with it. A wide residual stream, as a trained model has, would show the smallest deviation.
"""

from collections.abc import Iterator

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


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Two share a product, and where they cut it depends on its size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    assert torch.equal(found, padded.old_logprobs[padded.sampled])


@pytest.mark.parametrize("max_batch", [1, 3, 7])
def test_the_batch_does_not_show(model: Decoder, requests: list[Request], max_batch: int) -> None:
    alone = Engine(model, None, max_batch=max_batch).generate(requests)
    crowd = Engine(model, None).generate(requests)
    assert [g.tokens for g in alone] == [g.tokens for g in crowd]
    assert [g.logprobs for g in alone] == [g.logprobs for g in crowd]


@pytest.mark.parametrize("chunk", [1, 5, 200])
def test_what_is_kept_and_what_was_lost_do_not_show(
    model: Decoder, requests: list[Request], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rests after a kept beginning, in parts of `chunk` tokens, and rows that were pre-empted and read again."""
    texts = [list(range(17 + i)) for i in range(0, 150, 13)]
    asked = [Request(text, Sampling(seed=len(text), max_tokens=9), keep=len(text)) for text in texts]
    plain = Engine(model, None).generate(asked + requests)
    monkeypatch.setattr("longjing.engine.runner._PART", chunk)
    keeping = Engine(model, None, prefix_bytes=10**9)
    kept = [keeping.generate([one])[0] for one in asked]
    assert keeping.stats.tokens_reused
    monkeypatch.setattr("longjing.engine.engine.MARGIN", 2)
    width = 4 * model.config.num_hidden_layers * model.config.cache_width
    tight = Engine(model, None, cache_bytes=500 * width)
    lost = tight.generate(requests)
    assert tight.stats.preemptions
    for one, other in zip(plain, kept + lost, strict=True):
        assert one.tokens == other.tokens
        assert one.logprobs == other.logprobs


@torch.no_grad()
def test_a_text_has_the_same_bits_alone_and_in_a_crowd(model: Decoder) -> None:
    tokens = torch.randint(256, (20, 150), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(150).expand_as(tokens)
    whole = model.head(model.hidden(tokens, model.context(positions, exact=True)))
    for rows, length in [
        (1, 1),
        (1, 2),
        (1, 7),
        (3, 5),
        (1, 31),
        (2, 33),
        (15, 1),
        (17, 1),
        (1, 129),
        (20, 140),
    ]:
        context = model.context(positions[:rows, :length], exact=True)
        found = model.head(model.hidden(tokens[:rows, :length], context))
        assert torch.equal(found, whole[:rows, :length]), (rows, length)
