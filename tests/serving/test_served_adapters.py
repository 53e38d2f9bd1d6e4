"""Adapters served beside their base: one copy of its weights, and each answers as it does alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from longjing.generation.native import Engine, Request, Sampling
from longjing.model.decoder import Decoder
from longjing.model.layers.lora import LoRAConfig, adapters, add_lora
from longjing.model.layers.packed_linear import PackedLinear
from longjing.model.store.adapter import save_adapter
from longjing.runs.models import load
from longjing.serving.service import EngineLimits, Service

Base = Callable[[str], Path]
LIMITS = EngineLimits(rows=4, cache_bytes=1 << 20, prefix_bytes=0)


def adapter(base: Path, directory: Path, seed: int) -> str:
    model, tokenizer = load(base)
    add_lora(model, LoRAConfig(rank=2), seed)
    for *_, each in adapters(model):
        each.b.data = 0.2 * torch.randn(each.b.shape, generator=torch.Generator().manual_seed(seed))
    save_adapter(model, directory, str(base))
    tokenizer.save(directory)
    return str(directory)


def said(model: Decoder) -> list[int]:
    engine = Engine(model, None, cache_bytes=1 << 20)
    return engine.generate([Request([3, 1, 4], Sampling(temperature=0.0, max_tokens=12))])[0].tokens


def weights(model: Decoder) -> Iterator[int]:
    """Where all but the adapters lies: tensors, and matrices that are packed for decoding."""
    factors = {id(factor) for *_, each in adapters(model) for factor in (each.a, each.b)}
    yield from (parameter.data_ptr() for parameter in model.parameters() if id(parameter) not in factors)
    yield from (id(module) for module in model.modules() if isinstance(module, PackedLinear))


@pytest.mark.parametrize("family", ["deepseek_v3", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("order", ["base first", "base last", "an adapter alone first"])
def test_they_share_their_base_and_answer_as_alone(
    family: str, order: str, dtype: str, base: Base, tmp_path: Path
) -> None:
    whole = str(base(family))
    first, second = (adapter(Path(whole), tmp_path / str(seed), seed) for seed in (1, 2))
    names = {"base first": [whole, first, second], "base last": [first, second, whole]}.get(order, [first, second])
    alone = {name: said(load(name, dtype=getattr(torch, dtype))[0]) for name in names}
    service = Service("cpu", dtype, LIMITS)
    try:
        served = {name: service.load(name) for name in names}
        assert [*service.models] == names and len(set(map(tuple, alone.values()))) == len(names)
        # Some have answered before the others come, and keep sums of weights and adapters.
        assert {name: said(each.engine.model) for name, each in served.items()} == alone
        private = service.load_private(second)
        assert said(private.engine.model) == alone[second]
        assert len({frozenset(weights(each.engine.model)) for each in (*served.values(), private)}) == 1
        assert {name: said(each.engine.model) for name, each in served.items()} == alone
    finally:
        service.close()
