"""Other storages than dense go through every matrix of the network: only `linear.py` knows what a weight is."""

from collections.abc import Sequence

import pytest
import torch
from model_cases import batch, deepseek, dense, difference, network
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.model.decoder import Decoder
from longjing.model.layers.linear import Linear, Storage, replace_weight
from longjing.model.layers.moe import Experts


class PerRow(Storage):
    """Eight bits a number, and one scale for each row."""

    def __init__(self, codes: Tensor, scales: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)

    @classmethod
    def of(cls, weight: Tensor) -> "PerRow":
        scales = weight.abs().amax(dim=-1, keepdim=True) / 127
        return cls((weight / scales).round().to(torch.int8), scales)

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        out = F.linear(x, self.codes.float()) * self.scales[:, 0]
        return out if bias is None else out + bias

    def unbind(self) -> Sequence[Storage]:
        return [PerRow(codes, scales) for codes, scales in zip(self.codes, self.scales, strict=True)]

    def dense(self) -> Tensor:
        return self.codes.float() * self.scales


class Adapted(Storage):
    """A frozen matrix and a trained one of low rank beside it, as LoRA has (arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, rank: int = 2) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        *stack, rows, columns = weight.shape
        self.a = nn.Parameter(torch.randn(*stack, rank, columns, generator=torch.Generator().manual_seed(0)))
        self.b = nn.Parameter(torch.zeros(*stack, rows, rank))

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(x, self.weight, bias) + F.linear(F.linear(x, self.a), self.b)

    def unbind(self) -> Sequence[Storage]:
        parts = []
        for weight, a, b in zip(self.weight, self.a, self.b, strict=True):
            part = Adapted(weight, 0)
            part._parameters.clear()
            part.a, part.b = a, b
            parts.append(part)
        return parts

    def dense(self) -> Tensor:
        return self.weight + self.b @ self.a


def store(model: Decoder, storage: type) -> int:
    """Put every matrix of the blocks into another storage; returns how many."""
    make, count = getattr(storage, "of", storage), 0
    for module in list(model.layers.modules()):
        names = {Linear: ["weight"], Experts: ["gate_up_proj", "down_proj"]}.get(type(module), [])
        for name in names:
            replace_weight(module, name, make(getattr(module, name).detach()))
            count += 1
    return count


def logits(model: Decoder, tokens: Tensor, batch_invariant: bool) -> Tensor:
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    return model.head(model.hidden(tokens, model.context(positions, batch_invariant=batch_invariant)))


SHAPES = pytest.mark.parametrize("shape", [deepseek(), deepseek(q_lora_rank=10), dense("llama", mlp_bias=True)])


@SHAPES
@pytest.mark.parametrize("absorbed", [False, True])
@torch.no_grad()
def test_eight_bits_compute_nearly_what_the_dense_weights_do(shape: dict[str, object], absorbed: bool) -> None:
    model, tokens = network(shape, bias=0.0), batch(network(shape))
    want = logits(model, tokens, absorbed)
    assert store(model, PerRow) >= 14
    assert not any(parameter.dim() > 1 for name, parameter in model.layers.named_parameters() if "gate.w" not in name)
    got = logits(model, tokens, absorbed)
    assert difference(got, want) > 0
    assert torch.cosine_similarity(got, want, dim=-1).mean() > 0.99


@SHAPES
@pytest.mark.parametrize("absorbed", [False, True])
def test_an_adapter_changes_nothing_at_first_and_alone_is_trained(shape: dict[str, object], absorbed: bool) -> None:
    model, tokens = network(shape), batch(network(shape))
    want = logits(model, tokens, absorbed)
    model.requires_grad_(False)
    count = store(model, Adapted)
    got = logits(model, tokens, absorbed)
    assert difference(got, want) < 1e-4
    got.sum().backward()
    trained = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * count and all(name.endswith((".a", ".b")) for name in trained)
    assert all(grad.abs().max() > 0 for name, grad in trained.items() if name.endswith(".b"))
