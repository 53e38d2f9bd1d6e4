"""In float32 on one thread of a CPU a token's result doesn't depend on its batch; the trainer's equals the engine's.

Rounding-sized differences are what this is about: every product, sum and function has to treat a row alike however many
rows are with it. A wide residual stream, as a trained model has, would show the smallest deviation.

Whether products treat rows alike is this machine's BLAS's to say (`rows_are_alike`). Where they do, results have to be
the same to the bit; where they don't, below 1e-5.
"""

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from longjing.generation.native.engine import Engine
from longjing.generation.request import Generation, Request, Sampling
from longjing.learning.logprobs import token_logprobs
from longjing.learning.rollouts import pad
from longjing.model.batch_invariance_probe import is_batch_invariant
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.threads import SMALL

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
    """With wide weights, which show the least deviation; where products deviate anyway, with less wide ones."""
    model = Decoder(CONFIGS[request.param]).initialise(0).eval()
    factor = 5 if rows_are_alike(model) else 2
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= factor
    return model


@pytest.fixture(scope="module")
def exact(model: Decoder) -> bool:
    """Whether this machine offers the same bits for the model's products."""
    return rows_are_alike(model)


@torch.no_grad()
def rows_are_alike(model: Decoder) -> bool:
    """Products as exact decoding makes them, few rows and short texts against many: nothing of the network's own code.

    At least 16 rows through a matrix; 2 or more queries of keys, from 32 on, or keys of queries that are fewer than a
    sixteenth of their width; and a sum over at most 128 values, of which those behind the end weigh nothing.
    """
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    matrices = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    for weight in {tuple(matrix.shape): matrix for matrix in matrices}.values():
        x = normal(3000, weight.shape[1])
        whole = F.linear(x, weight)
        if not all(torch.equal(F.linear(x[:n], weight), whole[:n]) for n in (*range(16, 40), 66, 129, 2800)):
            return False
    config = model.config
    if config.is_latent:
        heads, width, value = config.num_attention_heads, config.cache_width, config.kv_lora_rank
    else:
        heads = config.num_attention_heads // config.num_key_value_heads
        width = value = config.head_dim
    q, k, v = normal(3, 128 * heads, width), normal(3, 150, width), normal(3, 128, value)
    scores, weights = torch.bmm(q, k.mT), normal(3, 128 * heads, 128)
    for rows in (max(2, heads), *(number * heads for number in (2, 3, 5, 7, 31, 33, 101))):
        for ends in (32, 33, 34, 35, 47, 101, 129, 150):
            few, some = q[:, :rows], k[:, :ends]
            product = torch.bmm(few, some.mT) if width <= 16 * rows else torch.bmm(some, few.mT).mT
            if not torch.equal(product, scores[:, :rows, :ends]):
                return False
        for ends in (32, 33, 34, 35, 47, 101, 127):
            masked = torch.where(torch.arange(128) < ends, weights, 0.0)
            whole = torch.bmm(masked, v)
            if not torch.equal(torch.bmm(masked[:, :rows, :ends], v[:, :ends]), whole[:, :rows]):
                return False
    return True


def agree(ones: Sequence[Generation], others: Sequence[Generation], exact: bool) -> None:
    """The same completions; where the machine isn't exact, up to the first token that rounding made another."""
    changed = 0
    for one, other in zip(ones, others, strict=True):
        same = 0
        while same < len(one.tokens) and one.tokens[same : same + 1] == other.tokens[same : same + 1]:
            same += 1
        changed += one.tokens != other.tokens
        if exact:
            assert one.tokens == other.tokens and one.logprobs == other.logprobs
        else:
            assert one.logprobs[:same] == pytest.approx(other.logprobs[:same], rel=0, abs=1e-5)
    assert changed <= len(ones) // 20


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """Completions that end at very different lengths, so that the batch shrinks to one, across a chunk's border."""
    return [
        Request([(7 * i + j) % 256 for j in range(5 + i)], Sampling(seed=i, max_tokens=6 * i + 1)) for i in range(24)
    ]


def test_the_trainer_computes_what_the_engine_sampled_with(
    model: Decoder, exact: bool, requests: list[Request]
) -> None:
    generations = Engine(model, None, record_routes=True).generate(requests)
    padded = pad(generations, 0, torch.device("cpu"))
    positions = torch.arange(padded.tokens.shape[1]).expand_as(padded.tokens)
    with torch.no_grad():
        context = model.context(positions, replay=padded.routes, batch_invariant=True)
        hidden = model.hidden(padded.tokens, context)
        logits = model.head(hidden[:, :-1][padded.sampled], context)
    logprobs = token_logprobs(logits, padded.tokens[:, 1:][padded.sampled])
    difference = (logprobs - padded.old_logprobs[padded.sampled]).abs().max()
    assert difference == 0 if exact else difference < 1e-5


@pytest.mark.parametrize("max_batch", [1, 3, 7])
def test_the_batch_does_not_show(model: Decoder, exact: bool, requests: list[Request], max_batch: int) -> None:
    alone = Engine(model, None, max_batch=max_batch).generate(requests)
    agree(alone, Engine(model, None).generate(requests), exact)


@pytest.mark.parametrize("chunk", [1, 5, 200])
def test_what_is_kept_and_what_was_lost_do_not_show(
    model: Decoder, exact: bool, requests: list[Request], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rests after a kept beginning, in parts of `chunk` tokens, and rows that were pre-empted and read again."""
    texts = [list(range(17 + i)) for i in range(0, 150, 13)]
    kept_requests = [Request(text, Sampling(seed=len(text), max_tokens=9), keep=len(text)) for text in texts]
    plain = Engine(model, None).generate(kept_requests + requests)
    monkeypatch.setattr("longjing.generation.native.runner.READ_ON_TOKENS", chunk)
    keeping = Engine(model, None, prefix_bytes=10**9)
    kept = [keeping.generate([one])[0] for one in kept_requests]
    assert keeping.stats.tokens_reused
    monkeypatch.setattr("longjing.generation.native.scheduler.HEADROOM", 2)
    width = 4 * model.config.num_hidden_layers * model.config.cache_width
    tight = Engine(model, None, cache_bytes=500 * width)
    lost = tight.generate(requests)
    assert tight.stats.preemptions
    agree(plain, kept + lost, exact)


@torch.no_grad()
def test_a_text_has_the_same_bits_alone_and_in_a_crowd(model: Decoder, exact: bool) -> None:
    tokens = torch.randint(256, (20, 150), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(150).expand_as(tokens)

    def logprobs(rows: int, length: int) -> Tensor:
        context = model.context(positions[:rows, :length], batch_invariant=True)
        return model.head(model.hidden(tokens[:rows, :length], context), context).log_softmax(-1)

    whole = logprobs(20, 150)
    for rows, length in [
        (1, 1), (1, 2), (1, 7), (3, 5), (1, 31), (2, 33), (15, 1), (17, 1), (1, 129), (20, 140),
    ]:  # fmt: skip
        difference = (logprobs(rows, length) - whole[:rows, :length]).abs().max()
        assert difference == 0 if exact else difference < 1e-5, (rows, length)


def test_what_the_machine_offers_is_found_out(model: Decoder, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not exact or is_batch_invariant(model)
    product = F.linear

    def by_size(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """As a BLAS that adds up in another order where rows are few."""
        flip = x.shape[:-1].numel() < 64
        return product(x.flip(-1), weight.flip(-1), bias) if flip else product(x, weight, bias)

    monkeypatch.setattr(F, "linear", by_size)
    monkeypatch.setattr(torch.nn.functional, "linear", by_size)
    assert not is_batch_invariant(model)


def test_large_models_are_not_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a real checkpoint, alone, is one row in every product, unless a trainer asks for its bits."""
    model = Decoder(LATENT).initialise(0).eval()
    rows: set[int] = set()
    product = F.linear

    def counting(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if count := x.shape[:-1].numel():  # an expert may have none
            rows.add(count)
        return product(x, weight, bias)

    monkeypatch.setattr(F, "linear", counting)
    request = [Request([5], Sampling(max_tokens=4))]
    Engine(model, None).generate(request)
    assert min(rows) >= 16
    monkeypatch.setattr("longjing.model.threads.SMALL", 1)
    rows.clear()
    Engine(model, None).generate(request)
    assert rows == {1}
    rows.clear()
    Engine(model, None, batch_invariant=True).generate(request)
    assert min(rows) >= 16 and SMALL > 1_000_000
