"""Measuring is quick and gives figures of the right order; a floor is the slower of computing and reading."""

import time
from dataclasses import replace

import pytest
import torch

from longjing.planning.machine import Machine, measure


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
