"""Training state: everything that must survive, through a file, bit by bit."""

import copy
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from longjing.learning.optimizers import Optimizers, adamw, muon
from longjing.learning.state import copy_weights, disk_bytes, gather, restore, weights
from longjing.model.decoder import Decoder
from longjing.runs import RunDirectory


def network(family: str, seed: int = 0) -> Decoder:
    """Tied where that is possible, with every buffer away from zero."""
    model = tiny.network(family, seed, tie_word_embeddings=family == "llama")
    for router in model.routers():
        router.e_score_correction_bias += torch.linspace(-1, 1, 8)
    return model


def optimizers_of(name: str, model: Decoder) -> Optimizers:
    return muon(model, 0.02, 0.003) if name == "muon" else adamw(model, 0.003)


def train(model: Decoder, optimizers: Optimizers, steps: int) -> None:
    for step in range(steps):
        model(torch.arange(12).view(2, 6) + step).square().mean().backward()
        optimizers.step()


def bits(tensors: dict[str, Tensor]) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Bytes, so that -0.0 and 0.0 differ and NaN equals itself."""
    return {name: (t.dtype, t.contiguous().reshape(-1).view(torch.uint8).tolist()) for name, t in tensors.items()}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_weights_are_parameters_once_and_what_a_checkpoint_keeps(family: str) -> None:
    model = network(family)
    tensors = weights(model)
    assert {name for name, _ in model.named_parameters()} <= set(tensors)
    extra = set(tensors) - {name for name, _ in model.named_parameters()}
    assert all(name.endswith("e_score_correction_bias") for name in extra) and len(extra) == len([*model.routers()])
    assert ("lm_head.weight" in tensors) == (family != "llama")  # tied there
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == len(tensors)
    assert not any(tensor.requires_grad for tensor in tensors.values())
    size, learned = (sum(each.nbytes for each in part) for part in (tensors.values(), model.parameters()))
    assert disk_bytes(model) == size + 2 * (size + 2 * learned)  # the model, and two states: seven times its weights
    assert disk_bytes(model, weights(model)) == size + 2 * (2 * size + 2 * learned)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_state_survives_a_file(family: str, optimizer: str, tmp_path: Path) -> None:
    """Into objects that were made from another seed, with another history of their own."""
    model = network(family)
    reference = weights(copy.deepcopy(model))
    optimizers = optimizers_of(optimizer, model)
    train(model, optimizers, 3)
    stage = RunDirectory(tmp_path).stage("zero")
    assert stage.load_state() is None
    expected = bits(gather(model, optimizers, reference))
    stage.save_state(7, gather(model, optimizers, reference), {"time": 0.1 + 0.2})
    wanted = (disk_bytes(model, reference) - sum(tensor.nbytes for tensor in weights(model).values())) / 2
    assert (tmp_path / "zero" / "state" / "step-00000007.safetensors").stat().st_size < wanted + 50_000

    other, elsewhere = network(family, 1), weights(network(family, 2))
    others = optimizers_of(optimizer, other)
    saved = stage.load_state()
    assert saved is not None and saved[1] == {"time": 0.1 + 0.2, "step": 7}
    restore(saved[0], other, others, elsewhere)
    assert bits(gather(other, others, elsewhere)) == expected
    train(model, optimizers, 2)
    train(other, others, 2)
    assert bits(gather(other, others)) == bits(gather(model, optimizers))
    assert bits(elsewhere) == bits(reference) != bits(weights(model))


def test_a_state_before_the_first_step_has_weights_only() -> None:
    model = network("deepseek_v3")
    tensors = gather(model, adamw(model, 0.1))
    assert tensors and all(name.startswith("model.") for name in tensors)
    other = network("deepseek_v3", 1)
    restore(tensors, other, adamw(other, 0.1))
    assert bits(weights(other)) == bits(weights(model))


def test_restored_tied_weights_stay_tied() -> None:
    model, other = network("llama"), network("llama", 1)
    restore(gather(model, adamw(model, 0.1)), other, adamw(other, 0.1))
    assert other.lm_head.weight is other.embed_tokens.weight


def test_a_copy_is_no_alias() -> None:
    model, reference = network("deepseek_v3"), network("deepseek_v3", 1)
    copy_weights(weights(model), weights(reference))
    before = bits(weights(reference))
    assert before == bits(weights(model))
    train(model, adamw(model, 0.1), 1)
    assert bits(weights(reference)) == before != bits(weights(model))


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in"):
        copy_weights(weights(network("llama")), weights(network("deepseek_v3")))
