"""What must survive a kill: weights that learn, optimiser state, reference policy, as flat names and tensors.

Nothing else needs saving: every random number comes from (seed, step, problem, sample, position), and every
batch from (seed, step), so the step is the data cursor and the random state at once.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from longjing.learning.optimizers import Optimizers, learning
from longjing.model.decoder import Decoder

_MODEL, _OPTIMIZER, _REFERENCE = "model.", "optimizer.", "reference."


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
    """What a stage may need on the disk: its model, and two states while a third is written.

    A state is at most the weights, two moments of each, and the reference.
    """
    return sum(tensor.nbytes for tensor in weights(model).values()) * (1 + 3 * (3 if reference is None else 4))


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
