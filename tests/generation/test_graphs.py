"""Captured decoding: padded shapes everywhere, real graphs where there is a CUDA device."""

from dataclasses import replace

import pytest
import torch
from engine_cases import LATENT, MODELS, crowd

from longjing.generation.native import Engine
from longjing.generation.native.graphs import Graphs
from longjing.model.decoder import Decoder

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
EXPERTLESS = replace(LATENT, n_routed_experts=0, n_shared_experts=0, num_experts_per_tok=0)


@pytest.mark.parametrize("model", [MODELS["qwen"], Decoder(EXPERTLESS).initialise(0)], ids=["qwen", "latent"])
def test_padded_shapes_give_the_same_samples(model, monkeypatch):
    monkeypatch.setattr("longjing.generation.native.graphs.COLUMNS", 16)
    requests = crowd(11)
    expected = Engine(model, None).generate(requests)
    engine = Engine(model, None, max_batch=7)
    runner = engine._runner
    runner._graphs = Graphs(runner._logits, runner.cache)
    for generation, whole in zip(engine.generate(requests), expected, strict=True):
        assert generation.tokens == whole.tokens
        assert generation.logprobs == pytest.approx(whole.logprobs, abs=1e-5)
    assert {rows for rows, _ in runner._graphs._captured} >= {1, 2, 4}


@no_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_a_cuda_device_draws_what_the_cpu_draws(name):
    """Graphs for the decoders without experts; in float32 only rounding differs, and rarely a draw with
    it."""
    model = Decoder(MODELS[name].config).initialise(0)
    expected = Engine(model, None).generate(crowd(16))
    engine = Engine(model.cuda(), None)
    same = [a.tokens == b.tokens for a, b in zip(engine.generate(crowd(16)), expected, strict=True)]
    assert sum(same) >= 15


@no_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_on_a_cuda_device_stays_near_float32(name, monkeypatch):
    """In many shapes, whose graphs must not lose what they read when the next one is captured."""
    monkeypatch.setattr("longjing.generation.native.graphs.COLUMNS", 16)
    model = Decoder(MODELS[name].config).initialise(0).cuda()
    engine = Engine(model, None, dtype=torch.bfloat16)
    for generation in engine.generate(crowd(24)):
        tokens = torch.tensor([generation.prompt + generation.tokens], device="cuda")
        with torch.no_grad():
            logprobs = engine.model(tokens[:, :-1])[0, len(generation.prompt) - 1 :].float().log_softmax(-1)
        logprobs = logprobs.gather(1, tokens[0, len(generation.prompt) :, None])[:, 0].cpu()
        assert (logprobs - torch.tensor(generation.logprobs)).abs().mean() < 0.1
