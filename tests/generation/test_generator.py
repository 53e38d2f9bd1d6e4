"""The seam behind which trainers see whoever generates: what it can do is asked before a run begins."""

from collections.abc import Sequence
from typing import Any

import pytest
import tiny
import torch
from engine_cases import MODELS, crowd

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.generation.factory import make_generator
from longjing.generation.generator import Capabilities, Generator
from longjing.generation.multi_turn import generate_multi_turn
from longjing.generation.request import Generation, Request, Sampling
from longjing.learning import settings as shared
from longjing.learning.reinforcement import Reinforcement, ReinforcementSettings

EVERYTHING = Capabilities(routes=True, logits_processors=True, seeds=True, exact_logprobs=True)


class External:
    """As an adapter of somebody else's engine would be: it completes prompts, and that is all."""

    watcher = None
    capabilities = Capabilities(routes=False, logits_processors=False, seeds=False, exact_logprobs=False)

    def __init__(self) -> None:
        self.requests = 0

    def generate(self, requests: Sequence[Request], on_step: Any = None, follow: Any = None) -> list[Generation]:
        self.requests += len(requests)
        return [Generation(list(request.prompt), [5, 1], [-1.0, -1.0], "stop", "x") for request in requests]

    def update_weights(self) -> None:
        raise AssertionError("nothing was trained")


@pytest.mark.parametrize("name", ["routes", "logits_processors", "seeds", "exact_logprobs"])
def test_what_is_missing_is_named(name: str) -> None:
    EVERYTHING.require("this", name)
    with pytest.raises(UserError, match=f"this needs a generator with {name.replace('_', ' ')}"):
        External.capabilities.require("this", name)


def test_the_native_generator_records_for_training_what_a_trainer_needs() -> None:
    generator: Generator = make_generator(MODELS["latent"], None, training=True)
    assert generator.capabilities == EVERYTHING
    (generation,) = generator.generate(crowd(1))
    assert generation.routes is not None
    assert not make_generator(MODELS["latent"], None).capabilities.routes


def test_any_generator_will_do_for_conversations_of_one_turn() -> None:
    ids, external = tiny.tokenizer(), External()
    opening = [{"role": "user", "content": "Write 1."}]
    ((rollout,),) = generate_multi_turn(external, ids, [(opening, [Sampling()])])
    assert rollout.generation.text == "x" and external.requests == 1


@pytest.mark.parametrize(
    ("family", "missing"), [("deepseek_v3", "seeds, exact logprobs, routes"), ("llama", "seeds, exact logprobs, which")]
)
@pytest.mark.usefixtures("letters")
def test_a_trainer_refuses_a_generator_whose_log_probabilities_are_its_own(
    family: str, missing: str, base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mixture asks for the experts too; a dense model has none."""
    external = External()
    monkeypatch.setattr(shared, "make_generator", lambda *arguments, **options: external)
    settings = {"task": {"name": "letters"}, "steps": 1, "max_tokens": 8, "model": str(base(family))}
    with pytest.raises(UserError, match=missing):
        runtime = Runtime(0, torch.device("cpu"), torch.float32)
        Reinforcement(ReinforcementSettings.model_validate(settings), runtime)
    assert external.requests == 0
