"""One numerics path in bfloat16: what the engine samples with is what a trainer computes, on a CPU to the bit."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from model_cases import batch, deepseek, dense, difference, mixture, network, qwen3_moe

from longjing.cluster.runtime import Runtime
from longjing.generation.native.decoding_copy import DecodingCopy
from longjing.generation.native.engine import Engine
from longjing.generation.request import Request, Sampling
from longjing.model.decoder import Decoder
from longjing.model.layers.linear import Linear
from longjing.model.layers.lora import LoRAConfig, adapters, add_lora
from longjing.model.layers.packed_linear import PackedLinear
from longjing.model.layers.packed_product import Matrix, can_pack, pack, packed_product
from longjing.model.threads import is_small

CPU, RUNTIME = torch.device("cpu"), Runtime(0, torch.device("cpu"), torch.bfloat16)
LARGER = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4}


def adapted() -> Decoder:
    model = network(dense("llama", **LARGER)).bfloat16()
    add_lora(model, LoRAConfig(rank=3))
    for *_, adapter in adapters(model):
        adapter.b.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    return model


MODELS = {
    "float32 weights": lambda: network(dense("qwen2", **LARGER)),
    "q/k norms": lambda: network(dense("qwen3", head_dim=24, **LARGER)),
    "bfloat16 weights": lambda: network(dense("llama", tie_word_embeddings=True, **LARGER)).bfloat16(),
    "an adapter": adapted,
}


@torch.no_grad()
def differences(model: Decoder, engine: Engine, lengths: tuple[int, ...] = (3, 20, 11, 40)) -> Iterator[torch.Tensor]:
    """Of each sampled token, how far the engine's log-probability is from the trainer's."""
    prompts = [[(7 * i + row) % 60 + 1 for i in range(length)] for row, length in enumerate(lengths)]
    sampling = [Sampling(temperature=1.0, max_tokens=24, seed=row) for row in range(len(prompts))]
    for generation in engine.generate([Request(*pair) for pair in zip(prompts, sampling, strict=True)]):
        tokens = torch.tensor([[*generation.prompt, *generation.tokens]])
        with RUNTIME.autocast():
            context = model.context(torch.arange(tokens.shape[1])[None], batch_invariant=True)
            logits = model.head(model.hidden(tokens, context), context)[0, len(generation.prompt) - 1 : -1]
        chosen = logits.float().log_softmax(-1).gather(-1, torch.tensor(generation.tokens)[:, None])[:, 0]
        yield (chosen - torch.tensor(generation.logprobs)).abs()


@pytest.mark.parametrize("kind", MODELS)
def test_engine_and_trainer_agree(kind: str) -> None:
    model = MODELS[kind]()
    engine = Engine(model, None, dtype=torch.bfloat16, record_routes=True, batch_invariant=True, end_tokens=())
    for turn in range(2):
        result = torch.cat(list(differences(model, engine)))
        assert len(result) == 96 and result.mean() < 0.005
        if can_pack(CPU, torch.bfloat16):
            assert result.max() == 0
        if turn == 0:  # what learns, moves, and the engine with it
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
            engine.update_weights()


def test_a_mixture_agrees_as_far_as_it_chooses_the_same_experts() -> None:
    model = network(qwen3_moe(**LARGER))
    engine = Engine(model, None, dtype=torch.bfloat16, record_routes=True, batch_invariant=True, end_tokens=())
    assert torch.cat(list(differences(model, engine))).median() < 0.005


def test_what_is_shared_stays_and_the_source_may_go() -> None:
    model = network(dense("llama", **LARGER)).bfloat16()
    want = [g.tokens for g in Engine(model, None, end_tokens=()).generate([Request([1, 2, 3], Sampling(max_tokens=9))])]
    engine = Engine(model, None, end_tokens=())
    assert engine.model.embed_tokens.weight is model.embed_tokens.weight
    del model
    engine.update_weights()
    assert [g.tokens for g in engine.generate([Request([1, 2, 3], Sampling(max_tokens=9))])] == want


@pytest.mark.parametrize("kind", MODELS)
def test_a_copy_is_as_small_as_its_source(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[kind]()
    copy = Engine(model, None, dtype=torch.bfloat16).model
    numbers = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    for limit, small in ((numbers, False), (numbers + 1, True)):
        monkeypatch.setattr("longjing.model.threads.SMALL", limit)
        assert is_small(model) is is_small(copy) is small


FAMILIES = [
    deepseek(), deepseek(q_lora_rank=10, tie_word_embeddings=True), dense("llama", mlp_bias=True, attention_bias=True),
    dense("qwen2", tie_word_embeddings=True), dense("qwen3", head_dim=8), mixture(), qwen3_moe(),
]  # fmt: skip


@pytest.mark.parametrize("adapts", [False, True], ids=["whole", "an adapter"])
@pytest.mark.parametrize("shape", FAMILIES, ids=lambda shape: shape["model_type"])
@torch.no_grad()
def test_a_packed_copy_is_a_plain_one(shape: dict[str, Any], adapts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = network(shape), batch(network(shape))
    if adapts:
        names = {name.rpartition(".")[2] for name, part in model.layers.named_modules() if isinstance(part, Linear)}
        experts = ["experts"] if next(model.routers(), None) else []
        add_lora(model, LoRAConfig(rank=3, targets=(*sorted(names), *experts)))
    copies = [DecodingCopy(model, torch.bfloat16)]
    with monkeypatch.context() as patch:
        patch.setattr("longjing.generation.native.decoding_copy.can_pack", lambda *_: False)
        copies.append(DecodingCopy(model, torch.bfloat16))
    packed, plain = (copy.model for copy in copies)
    before = packed(tokens)
    assert difference(before, plain(tokens)) < 0.02
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    for copy in copies:
        copy.update()
    after = packed(tokens)
    if adapts:  # its share is rounded for itself beside a packed matrix, and with the whole in the trainer's product
        assert (after - plain(tokens)).abs().median() < 0.05
    else:
        assert difference(after, plain(tokens)) < 0.05
    assert difference(after, before) > 0.05
    if can_pack(CPU, torch.bfloat16):
        whole = {
            name for name, part in packed.named_modules() if isinstance(part, Linear) and "weight" in part._parameters
        }
        assert all("kv_b_proj" in name for name in whole)
    assert (plain.lm_head.weight is plain.embed_tokens.weight) == model.config.tie_word_embeddings
    drafts = model.config.num_nextn_predict_layers > 0
    requests = [Request([3, 1, 4, 1 + i], Sampling(max_tokens=6, seed=i)) for i in range(3)]
    said = Engine(packed, None, end_tokens=(), speculate=drafts).generate(requests)  # as an adapter's engine shares it
    assert all(len(generation.tokens) == 6 for generation in said)


@torch.no_grad()
def test_products_of_packed_matrices_are_those_of_plain_ones() -> None:
    if not can_pack(CPU, torch.bfloat16):
        pytest.skip("this processor's products in bfloat16 aren't oneDNN's")
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 64, generator=generator).bfloat16()
    bias = torch.randn(96, generator=generator).bfloat16()
    packed, x = PackedLinear(weight), torch.randn(40, 64, generator=generator).bfloat16()
    for rows in (1, 3, 40):
        for added in (None, bias):
            plain: Any = torch.nn.functional.linear(x[:rows], weight, added)
            assert torch.equal(packed.linear(x[:rows], added), plain)
    assert torch.equal(packed.dense(), weight)


def matrices(sizes: list[int], width: int, rank: int, random: torch.Generator) -> list[Matrix]:
    """Matrices of one width, with adapters where `rank` isn't 0."""

    def parameter(*shape: int) -> torch.nn.Parameter:
        return torch.nn.Parameter(torch.randn(shape, generator=random) * shape[-1] ** -0.5)

    weights = [parameter(size, width) for size in sizes]
    if not rank:
        return [Matrix(weight) for weight in weights]
    factors = [(parameter(rank, width), parameter(len(weight), rank)) for weight in weights]
    return [Matrix(weight, each, 0.7) for weight, each in zip(weights, factors, strict=True)]


def plainly(x: torch.Tensor, several: list[Matrix], bias: torch.Tensor) -> torch.Tensor:
    """What `packed_product` is to be, by products of PyTorch in float32."""
    parts = []
    for each in several:
        part = x.float() @ each.weight.T
        if each.factors is not None:
            part = part + x.float() @ each.factors[0].T @ each.factors[1].T * each.scale
        parts.append(part)
    return torch.cat(parts, dim=-1) + bias


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("rank", [0, 3, 64])
@pytest.mark.parametrize("sizes", [[1536], [64], [192, 64, 64]], ids=["one", "a narrow one", "three"])
@pytest.mark.parametrize("width", [8, 40, 896, 1536])
def test_a_row_is_what_it_is_alone_whatever_is_beside_it(width: int, sizes: list[int], rank: int) -> None:
    """Long sums and narrow matrices too, where oneDNN cuts sums otherwise for other numbers of rows; and the gradients
    are those of plain products."""
    if not can_pack(CPU, torch.bfloat16):
        pytest.skip("this processor has no products in bfloat16")
    random = torch.Generator().manual_seed(0)
    several = matrices(sizes, width, rank, random)
    bias = torch.nn.Parameter(torch.randn(sum(sizes), generator=random).bfloat16())
    x = torch.randn(600, width, generator=random).bfloat16().requires_grad_()
    whole = packed_product(x, several, bias)
    for rows in (1, 3, 40, 70, 160):
        assert torch.equal(packed_product(x[:rows], several, bias), whole[:rows])
        with torch.no_grad():
            assert torch.equal(packed_product(x[None, :rows], several, bias), whole[None, :rows])
    plain = plainly(x, several, bias)
    assert (whole - plain).abs().max() <= 2**-6 * plain.abs().max()
    gradient = torch.randn(whole.shape, generator=random).bfloat16()
    learned = [x, bias, *(each for one in several for each in one.factors or (one.weight,))]
    ours = torch.autograd.grad(whole, learned, gradient)
    theirs = torch.autograd.grad(plain, learned, gradient.float())
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype and (one - other).abs().max() <= 2**-6 * other.abs().max()


def test_a_matrix_is_packed_once_for_each_state(monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_pack(CPU, torch.bfloat16):
        pytest.skip("this processor has no products in bfloat16")
    packed: list[torch.Tensor] = []
    monkeypatch.setattr(
        "longjing.model.layers.packed_product.pack", lambda numbers: packed.append(pack(numbers)) or packed[-1]
    )
    several = matrices([8, 24], 64, 4, torch.Generator().manual_seed(0))
    x = torch.ones(2, 64).bfloat16()
    bias = torch.zeros(32)
    for change in (None, several[1].weight, several[1].factors[0], several[0].factors[1]):
        with torch.no_grad():
            if change is not None:
                change += 1
            before = len(packed)
            result = packed_product(x, several)
            assert torch.equal(packed_product(x, several), result)
        assert len(packed) == before + (2 if change is None else 1)
        torch.testing.assert_close(result.float(), plainly(x, several, bias), rtol=0.02, atol=0.05)
    several[0].weight.data = torch.zeros(8, 64)
    torch.testing.assert_close(packed_product(x, several).float(), plainly(x, several, bias), rtol=0.02, atol=0.05)
