"""What must survive a kill: weights that learn, optimiser state, reference policy, as flat names and tensors.

Nothing else needs saving: every random number comes from (seed, step, problem, sample, position), and every
batch from (seed, step), so the step is the data cursor and the random state at once.
"""

import re
from collections.abc import Mapping
from time import monotonic

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.learning.optimizers import Optimizers, learning
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
        self._saved = monotonic()

    def due(self, step: int) -> bool:
        """Asked once, after the step."""
        if self._by_steps:
            return (step + 1) % self._every == 0
        now = monotonic()
        if is_due := now - self._saved >= self._every:
            self._saved = now
        return is_due


def weights(model: Decoder) -> dict[str, Tensor]:
    """What learning changes, not copied: parameters (tied ones once) and persistent buffers; where some are frozen, the
    parameters that aren't."""
    parameters = learning(model)
    named: dict[str, Tensor] = {**parameters}
    if len(parameters) == len(list(model.parameters())):
        kept = model.state_dict(keep_vars=True)
        named |= {name: buffer for name, buffer in model.named_buffers() if name in kept}
    return {name: tensor.detach() for name, tensor in named.items()}


def gather(model: Decoder, optimizers: Optimizers, reference: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """All tensors of a training state, not copied. `reference`: the reference policy's `weights`."""
    parts = {_MODEL: weights(model), _OPTIMIZER: optimizers.tensors(), _REFERENCE: reference or {}}
    return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}


def disk_bytes(model: Decoder, reference: Mapping[str, Tensor] | None = None) -> int:
    """What a stage needs on the disk at most: its model, and two states.

    A state is at most the weights, two moments of what is learned, and the reference.
    """
    size, referred = (sum(tensor.nbytes for tensor in part.values()) for part in (weights(model), reference or {}))
    return size + 2 * (size + referred + 2 * sum(parameter.nbytes for parameter in learning(model).values()))


def restore(
    tensors: Mapping[str, Tensor], model: Decoder, optimizers: Optimizers, reference: Mapping[str, Tensor] | None = None
) -> None:
    """The inverse of `gather`: copy the tensors into model, optimisers and reference, bit by bit."""

    def part(prefix: str) -> dict[str, Tensor]:
        chosen = (name for name in tensors if name.startswith(prefix))
        return {name.removeprefix(prefix): tensors[name] for name in chosen}

    copy_weights(part(_MODEL), weights(model))
    optimizers.load_tensors(part(_OPTIMIZER))
    if reference is not None:
        copy_weights(part(_REFERENCE), reference)


@torch.no_grad()
def copy_weights(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Overwrite the `weights` of one network with those of another; names and shapes must be the same."""
    if target.keys() != source.keys():
        raise ValueError(f"weights differ in {sorted(target.keys() ^ source.keys())[:5]}")
    for name, tensor in target.items():
        tensor.copy_(source[name])
