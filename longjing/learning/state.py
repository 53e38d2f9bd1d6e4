"""What must survive a kill: weights, optimiser state, reference policy, as flat names and tensors.

Nothing else needs saving: every random number comes from (seed, step, problem, sample, position), and every
batch from (seed, step), so the step is the data cursor and the random state at once.
"""

import re
import time
from typing import Any

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.learning.optimizers import Optimizers
from longjing.model.decoder import Decoder

_MODEL, _OPTIMIZER, _REFERENCE = "model.", "optimizer.", "reference."


_INTERVAL = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h)")


def check_interval(every: int | str | None) -> int | str | None:
    """Refuse what `Saving` couldn't go by, with a UserError."""
    if isinstance(every, str):
        _seconds(every)
    elif every is not None and every < 1:
        raise UserError(f"save_every is {every}; the state is saved after 1 step or more, or after a time like 60s")
    return every


def _seconds(text: str) -> float:
    if (match := _INTERVAL.fullmatch(text)) is None:
        raise UserError(f"save_every is {text!r}; give a number of steps, or a time like 60s, 5min or 1h")
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]


class Saving:
    """When a state is due: after so many steps, or after the first step that ends so much time after the last one."""

    def __init__(self, every: int | str) -> None:
        self._every = every if isinstance(every, int) else _seconds(every)
        self._by_steps = isinstance(every, int)
        self._saved = time.monotonic()

    def due(self, step: int) -> bool:
        """Asked once, after the step."""
        if self._by_steps:
            return (step + 1) % self._every == 0
        now = time.monotonic()
        if is_due := now - self._saved >= self._every:
            self._saved = now
        return is_due


def weights(model: Decoder) -> dict[str, Tensor]:
    """Parameters (tied ones once) and persistent buffers, not copied."""
    kept = model.state_dict(keep_vars=True)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach() for name, tensor in named.items() if name in kept}


def gather(model: Decoder, optimizers: Optimizers, reference: Decoder | None = None) -> dict[str, Tensor]:
    """All tensors of a training state, not copied."""
    parts: dict[str, dict[str, Tensor]] = {_MODEL: weights(model), _OPTIMIZER: optimizers.tensors()}
    if reference is not None:
        parts[_REFERENCE] = weights(reference)
    return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}


def disk_bytes(model: Decoder, reference: Decoder | None = None) -> int:
    """What a stage needs on the disk at most: its model, and two states.

    A state is at most the weights, two moments of what is learned, and the reference.
    """
    size = sum(tensor.nbytes for tensor in weights(model).values())
    learned = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return size + 2 * (size * (1 if reference is None else 2) + 2 * learned)


@torch.no_grad()
def restore(
    tensors: dict[str, Tensor], model: Decoder, optimizers: Optimizers, reference: Decoder | None = None
) -> None:
    """The inverse of `gather`: copy the tensors into model, optimisers and reference, bit by bit."""

    def part(prefix: str) -> dict[str, Tensor]:
        chosen = (name for name in tensors if name.startswith(prefix))
        return {name.removeprefix(prefix): tensors[name] for name in chosen}

    copy_weights(part(_MODEL), model)
    optimizers.load_tensors(part(_OPTIMIZER))
    if reference is not None:
        copy_weights(part(_REFERENCE), reference)


@torch.no_grad()
def copy_weights(source: dict[str, Tensor], model: Decoder) -> None:
    """Overwrite the model's weights; names and shapes must be those of `weights(model)`."""
    target: dict[str, Any] = weights(model)
    if target.keys() != source.keys():
        raise ValueError(f"weights differ in {sorted(target.keys() ^ source.keys())[:5]}")
    for name, tensor in target.items():
        tensor.copy_(source[name])
