"""Muon and AdamW: what they do to matrices, who goes where, and a state that comes back bit by bit."""

import math
from collections.abc import Callable

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from longjing.errors import UserError
from longjing.learning.optimizers import Muon, Optimizers, adamw, clip_gradients, muon, orthogonalise, split_parameters
from longjing.model.decoder import Decoder

OPTIMIZERS: dict[str, Callable[[Decoder], Optimizers]] = {
    "muon": lambda model: muon(model, 0.02, 0.003, weight_decay=0.01),
    "adamw": lambda model: adamw(model, 0.003, weight_decay=0.01),
}


def matrices(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 1000), st.floats(-3, 3))
def test_singular_values_come_near_one_and_their_vectors_stay(rows: int, columns: int, seed: int, scale: float) -> None:
    """Of tall, wide and square matrices of any size; the smallest values need more steps than five."""
    matrix = matrices(rows, columns, seed=seed) * 10**scale
    result = orthogonalise(matrix)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    diagonal = left.mT @ result @ right.mT
    torch.testing.assert_close(diagonal, torch.diag(diagonal.diagonal()), rtol=0, atol=2e-2)
    large = values > values.norm() / 20
    assert ((diagonal.diagonal()[large] > 0.5) & (diagonal.diagonal()[large] < 1.3)).all()
    assert (diagonal.diagonal() > -1e-3).all()


@given(st.sampled_from([(3, 8, 5), (3, 5, 8), (2, 2, 6, 6)]), st.integers(0, 1000))
def test_a_stack_is_orthogonalised_as_each_matrix_alone(shape: tuple[int, ...], seed: int) -> None:
    stack = matrices(*shape, seed=seed)
    alone = torch.stack([orthogonalise(matrix) for matrix in stack.flatten(0, -3)]).view(shape)
    torch.testing.assert_close(orthogonalise(stack), alone, rtol=1e-4, atol=1e-5)


def test_a_transposed_matrix_gives_the_transposed_result() -> None:
    matrix = matrices(7, 12)
    torch.testing.assert_close(orthogonalise(matrix.mT).mT, orthogonalise(matrix))


def test_no_gradient_is_no_update_even_among_others() -> None:
    """An expert that no token reached has a gradient of zeros, and stays where it is."""
    experts = nn.Parameter(torch.stack((matrices(4, 6), matrices(4, 6, seed=1))))
    before = experts.detach().clone()
    experts.grad = torch.stack((torch.zeros(4, 6), matrices(4, 6, seed=2)))
    Muon([experts], lr=0.1).step()
    assert torch.equal(experts[0], before[0]) and not torch.equal(experts[1], before[1])


def test_muon_by_hand() -> None:
    """Two steps: momentum 0.95 with Nesterov's look ahead, the scale of a tall matrix, decoupled decay."""
    parameter = nn.Parameter(matrices(8, 2))
    expected = parameter.detach().clone()
    optimizer = Muon([parameter], lr=0.1, momentum=0.95, weight_decay=0.5)
    momentum = torch.zeros(8, 2)
    for seed in (1, 2):
        gradient = matrices(8, 2, seed=seed)
        momentum = 0.95 * momentum + 0.05 * gradient
        update = orthogonalise(0.05 * gradient + 0.95 * momentum)
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * math.sqrt(8 / 2) * update
        parameter.grad = gradient
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.parametrize("shape", [(6, 6), (12, 4), (4, 12), (3, 5, 7)])
def test_muon_finds_the_minimum_of_a_quadratic(shape: tuple[int, ...]) -> None:
    """However the axes are scaled: its steps are of one size, so the error ends at the size of the last."""
    goal = matrices(*shape, seed=1)
    steep = torch.logspace(0, 1, shape[-1])
    parameter = nn.Parameter(torch.zeros(shape))
    optimizers = Optimizers([Muon([parameter], lr=0.1)])
    start = (parameter - goal).norm().item()
    for step in range(200):
        (0.5 * steep * (parameter - goal).square()).sum().backward()
        optimizers.step(1 - step / 200)
    assert (parameter - goal).norm().item() < 0.03 * start


def test_routers_embeddings_head_and_norms_go_with_adamw() -> None:
    model = tiny.network("deepseek_v3", q_lora_rank=10, attention_bias=True)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hidden, rest = ([names[id(p)] for p in part] for part in split_parameters(model))
    assert sorted(hidden + rest) == sorted(names.values())
    assert {name.rsplit(".", 2)[-2] + "." + name.rsplit(".", 1)[-1] for name in hidden} == {
        "q_a_proj.weight", "q_b_proj.weight", "kv_a_proj_with_mqa.weight", "kv_b_proj.weight",
        "o_proj.weight",
        "gate_proj.weight", "up_proj.weight", "down_proj.weight", "eh_proj.weight",
        "experts.gate_up_proj", "experts.down_proj",
    }  # fmt: skip
    assert {"embed_tokens.weight", "lm_head.weight", "norm.weight", "layers.1.mlp.gate.weight"} <= set(rest)
    assert {"layers.0.self_attn.q_a_proj.bias", "mtp.0.enorm.weight", "mtp.0.block.mlp.gate.weight"} <= set(rest)


def test_tied_embeddings_are_one_parameter() -> None:
    _, rest = split_parameters(tiny.network("llama", tie_word_embeddings=True))
    assert sum(parameter.shape == (290, 32) for parameter in rest) == 1


def trained(model: Decoder, optimizers: Optimizers, seeds: range) -> None:
    for seed in seeds:
        tokens = torch.randint(290, (2, 9), generator=torch.Generator().manual_seed(seed))
        model(tokens).logsumexp(dim=-1).sum().backward()
        clip_gradients(model, 1.0)
        optimizers.step((seed + 1) / 8)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_state_comes_back_bit_by_bit(family: str, name: str) -> None:
    """Three steps, the state through its tensors into fresh objects, and three more: as six at once."""
    whole, first, second = (tiny.network(family) for _ in range(3))
    trained(whole, OPTIMIZERS[name](whole), range(6))
    optimizers = OPTIMIZERS[name](first)
    trained(first, optimizers, range(3))
    tensors = {key: tensor.clone() for key, tensor in optimizers.tensors().items()}
    second.load_state_dict(first.state_dict())
    resumed = OPTIMIZERS[name](second)
    resumed.load_tensors(tensors)
    assert resumed.tensors().keys() == tensors.keys()
    for key, tensor in resumed.tensors().items():
        assert tensor.dtype == tensors[key].dtype and torch.equal(tensor, tensors[key]), key
    trained(second, resumed, range(3, 6))
    for (parameter, got), wanted in zip(second.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(got, wanted), parameter


def test_the_factor_scales_every_rate_and_gradients_are_forgotten() -> None:
    model = tiny.network("llama")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = muon(model, 0.02, 0.003)
    for factor in (0.0, 1.0):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizers.step(factor)
        assert all(parameter.grad is None for parameter in model.parameters())
        moved = [not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters()]
        assert all(moved) if factor else not any(moved)


def test_a_gradient_that_is_no_number_is_refused_before_it_spoils_the_weights() -> None:
    model = tiny.network("llama")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert clip_gradients(model, 1.0) == pytest.approx(math.sqrt(count))
    assert clip_gradients(model, 1.0) == pytest.approx(1.0, abs=1e-4)
    model.norm.weight.grad = torch.full_like(model.norm.weight, math.nan)
    with pytest.raises(UserError, match="nan.*learning rate"):
        clip_gradients(model, 1.0)
