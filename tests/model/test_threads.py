"""Threads: how many decoding takes, and that they don't spin."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from longjing.generation.native.engine import Engine
from longjing.generation.request import Request, Sampling
from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.threads import cpu_threads

MODEL = Decoder(ModelConfig("llama", 64, 32, 64, 2, 4, 4)).initialise(0).eval()


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """How many threads there were whenever the engine computed."""
    seen: set[int] = set()
    hidden = Decoder.hidden

    def watching(self: Decoder, *arguments: object) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return hidden(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "hidden", watching)
        engine.generate([Request([1, 2, 3], Sampling(max_tokens=2))])
    assert torch.get_num_threads() == 2
    return seen


def test_small_models_decode_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_of(Engine(MODEL, None), monkeypatch) == {1}
    assert threads_of(Engine(MODEL, None, threads=2), monkeypatch) == {2}
    monkeypatch.setattr("longjing.model.threads.SMALL", 10)
    assert threads_of(Engine(MODEL, None), monkeypatch) == {2}


def test_threads_are_given_back_after_an_error_and_never_added() -> None:
    with pytest.raises(ZeroDivisionError), cpu_threads(1):
        assert torch.get_num_threads() == 1
        _ = 1 / 0
    with cpu_threads(16):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "0"}),
        ({"GOMP_SPINCOUNT": "9"}, {"GOMP_SPINCOUNT": "9"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_waiting_threads_soon_sleep_unless_the_environment_says_otherwise(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    names = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")
    plain = {name: value for name, value in os.environ.items() if name not in names}
    code = (
        "import sys, os, longjing; assert 'torch' not in sys.modules; "
        f"print({{name: os.environ[name] for name in {names} if name in os.environ}})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=plain | environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == str(expected)
