"""Other storages than dense go through every matrix of the network: only `linear.py` knows what a weight is."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from model_cases import batch, deepseek, dense, difference, network
from torch import Tensor
from torch.nn import functional as F

from longjing.errors import UserError
from longjing.generation.native.engine import Engine
from longjing.generation.request import Request, Sampling
from longjing.model.decoder import Decoder
from longjing.model.layers.linear import Linear, Storage, replace_weight
from longjing.model.layers.moe import Experts
from longjing.model.store.checkpoint import save_model
from longjing.model.threads import is_small


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
        out = F.linear(x.float(), self.codes.float()) * self.scales[:, 0]
        return (out if bias is None else out + bias).to(x.dtype)

    def unbind(self) -> Sequence[Storage]:
        return [PerRow(codes, scales) for codes, scales in zip(self.codes, self.scales, strict=True)]

    def dense(self) -> Tensor:
        return self.codes.float() * self.scales


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
@torch.no_grad()
def test_eight_bits_decode_in_both_formats_and_are_not_written_as_if_dense(
    shape: dict[str, object], tmp_path: Path
) -> None:
    model = network(shape, bias=0.0)
    store(model, PerRow)
    assert is_small(model)
    for dtype in (torch.float32, torch.bfloat16):
        requests = [Request([3, 1, 4, 1 + i], Sampling(temperature=0.0, max_tokens=6)) for i in range(3)]
        generations = list(Engine(model, None, dtype=dtype).generate(requests))
        assert all(len(generation.tokens) == 6 for generation in generations)
    with pytest.raises(UserError, match="merge it first"):
        save_model(model, tmp_path)
