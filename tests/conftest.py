"""What all tests share: hypothesis without a clock, one thread, and tiny base models on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import settings

from longjing.problems import registry
from longjing.runs import fetch

# A machine may be busy; a deadline would call that a defect.
settings.register_profile("longjing", deadline=None)
settings.load_profile("longjing")
# Tiny tensors gain nothing from threads, and no result should hang on how many there are.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a tiny random model with its tokenizer, by family: `deepseek_v3` or `llama`."""
    root = tmp_path_factory.mktemp("base")

    def directory(family: str) -> Path:
        path = root / family
        if not path.exists():
            tiny.save_base(path, family)
        return path

    return directory


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The file of SmolLM2-135M-Instruct; a test that wants it is skipped where nobody has fetched it."""
    file = fetch.find_smollm2()
    if file is None:
        pytest.skip("SmolLM2's file isn't here; `make smollm2` (or `longjing fetch smollm2`) fetches it")
    return file


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks of `tiny`, under the names `letters` and `talks`."""
    monkeypatch.setitem(registry._TASKS, "letters", tiny.Letters)
    monkeypatch.setitem(registry._TASKS, "talks", tiny.Talks)
