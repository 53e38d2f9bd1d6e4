"""The experts' two ways of multiplying, and the router's number format."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_cases import deepseek, difference

from longjing.model.config import ModelConfig
from longjing.model.layers.moe import Experts
from longjing.model.layers.router import Router

CONFIG = ModelConfig.from_dict(deepseek(hidden_size=32, n_routed_experts=8, moe_intermediate_size=16))
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


def experts() -> Experts:
    made, generator = Experts(CONFIG), torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.2, generator=generator)
    return made


@given(st.lists(st.integers(0, 7), min_size=1, max_size=40))
def test_one_launch_for_all_experts_gives_what_they_give_one_by_one(chosen: list[int]) -> None:
    made, rows = experts(), torch.tensor(sorted(chosen))
    x = torch.randn(len(rows), 32, generator=torch.Generator().manual_seed(len(rows)), requires_grad=True)
    results = []
    for products in (made.one_by_one, made.grouped):
        out = products(x, rows)
        inner = torch.autograd.grad(out.square().sum(), (x, made.gate_up_proj, made.down_proj))
        results.append((out, *inner))
    for one, other in zip(*results, strict=True):
        assert difference(one, other) < 1e-4


@no_cuda
@pytest.mark.gpu
def test_one_launch_on_the_gpu_is_near_the_same_in_float32() -> None:
    made = experts().cuda()
    assert made.has_grouped_product(torch.bfloat16) == (torch.cuda.get_device_capability()[0] in (9, 10))
    rows = torch.randint(8, (100,), generator=torch.Generator().manual_seed(0)).sort().values.cuda()
    x = torch.randn(100, 32, device="cuda")
    want = made.one_by_one(x, rows)
    got = made.grouped(x.bfloat16(), rows)
    assert (got.float() - want).norm() / want.norm() < 2e-2
    got.float().square().sum().backward()
    assert made.down_proj.grad is not None and made.down_proj.grad.isfinite().all()


def test_the_router_scores_in_float32_under_autocast_too() -> None:
    router = Router(CONFIG)
    router.weight.data.normal_(0, 1, generator=torch.Generator().manual_seed(0))
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        narrow = router.scores(x)
    assert torch.equal(narrow, router.scores(x))
