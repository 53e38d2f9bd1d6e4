"""Measuring is quick and gives figures of the right order; a floor is the slower of computing and reading."""

import runpy
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longjing.model.config import ModelConfig
from longjing.planning import flops

_BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "machine.py"))
Machine, measure, decoding_bytes = (_BENCHMARK[name] for name in ("Machine", "measure", "decoding_bytes"))


def test_measuring_is_quick_and_plausible():
    started = time.perf_counter()
    machine = measure(working_set=2**26)
    assert time.perf_counter() - started < 10, "under two seconds on an idle machine"
    assert 1e8 < machine.matmul < 1e15
    assert 1e8 < machine.bandwidth < 1e13
    assert machine.working_set == 2**26
    assert (machine.device, machine.dtype, machine.threads) == ("cpu", "float32", torch.get_num_threads())


def test_the_floor_is_the_slower_of_the_two():
    machine = Machine("cpu", "", "float32", 1, matmul=100.0, bandwidth=10.0, working_set=0)
    assert machine.floor(1000, 10) == 10
    assert machine.floor(100, 100) == 10
    assert replace(machine, bandwidth=20.0).floor(100, 100) == 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_too():
    machine = measure("cuda", torch.bfloat16, working_set=2**30)
    assert machine.matmul > 1e12
    assert machine.bandwidth > 1e11


def test_decoding_reads_the_experts_that_the_batch_takes():
    config = ModelConfig(
        "deepseek_v3", vocab_size=90, hidden_size=40, intermediate_size=60, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=4, q_lora_rank=12, kv_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=8,
        first_k_dense_replace=2, n_routed_experts=64, n_shared_experts=1, num_experts_per_tok=8,
        moe_intermediate_size=20,
    )  # fmt: skip
    one, many = (decoding_bytes(config, batch, context=0, width=1) for batch in (1, 10**6))
    table = config.vocab_size * config.hidden_size  # the embedding is looked up, not read
    assert one == pytest.approx(flops.active_parameters(config) - table)
    assert many == pytest.approx(flops.parameters(config) - table)
    growth = decoding_bytes(config, 8, 1000) - decoding_bytes(config, 8, 0)
    assert growth == 8 * 1000 * flops.cache_bytes(config)
