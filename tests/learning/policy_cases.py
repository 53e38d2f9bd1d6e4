"""What the tests of all learning policies share: what a step did to the weights, and what it should have done."""

from typing import Any

import torch
from torch import Tensor

from longjing.model.decoder import Decoder

CPU = torch.device("cpu")
TIMINGS = ("time", "seconds", "tokens_per_second")


class Recorder:
    """In place of the optimisers: keeps the gradients of each optimiser step and moves nothing."""

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.gradients: list[dict[str, Tensor]] = []

    def step(self, factor: float) -> None:
        gradients = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        self.gradients.append(gradients)
        self.model.zero_grad()


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert got.keys() == wanted.keys()
    scale = max(gradient.abs().max() for gradient in wanted.values())
    assert scale > 0
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-5 * scale.item(), msg=name)


def logprob(model: Decoder, record: dict[str, Any], prompt: list[int], temperature: float) -> Tensor:
    """Of each sampled token, the last included, by one forward pass over this completion alone."""
    tokens = torch.tensor([*prompt, *record["tokens"]])
    logits = model(tokens[None])[0, len(prompt) - 1 : -1].double() / temperature
    return logits.log_softmax(dim=-1).gather(1, tokens[len(prompt) :, None])[:, 0]


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if not key.startswith(TIMINGS)} for row in rows]
