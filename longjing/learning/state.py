"""What must survive a kill: weights, optimiser state, reference policy, as flat names and tensors.

Nothing else needs saving: every random number comes from (seed, step, problem, sample, position), and every
batch from (seed, step), so the step is the data cursor and the random state at once.
"""

from typing import Any

import torch
from torch import Tensor

from longjing.learning.optimizers import Optimizers
from longjing.model.decoder import Decoder

_MODEL, _OPTIMIZER, _REFERENCE = "model.", "optimizer.", "reference."


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
    """What a stage may need on the disk: its model, and two states while a third is written.

    A state is at most the weights, two moments of each, and the reference.
    """
    return sum(tensor.nbytes for tensor in weights(model).values()) * (1 + 3 * (3 if reference is None else 4))


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
