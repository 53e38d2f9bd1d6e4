"""Muon for the hidden matrices, AdamW for everything else, as one optimiser."""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from longjing.errors import UserError
from longjing.model.decoder import Decoder


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Replace each matrix `[..., rows, columns]` by the nearest orthogonal one, roughly (Newton-Schulz).

    Muon (Jordan et al., 2024): the quintic iteration whose coefficients push all singular values of a matrix
    of norm at most 1 into about [0.7, 1.2]. On a GPU in bfloat16, as there: rough is enough, and float32 is slow.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for matrices; stacked experts count as many matrices.

    Matrices of one shape are orthogonalised together, which on a CPU is what keeps many small ones cheap.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update from the gradients; parameters without one are left alone."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    gradient = parameter.grad
                    assert gradient is not None
                    if "momentum" not in self.state[parameter]:
                        self.state[parameter]["momentum"] = torch.zeros_like(parameter)
                    momentum = self.state[parameter]["momentum"].lerp_(gradient, 1 - group["momentum"])
                    updates.append(gradient.lerp(momentum, group["momentum"]))  # Nesterov
                scale = group["lr"] * math.sqrt(max(1.0, shape[-2] / shape[-1]))
                for parameter, update in zip(parameters, orthogonalise(torch.stack(updates)), strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-scale)


def learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name: all but the frozen ones."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def split_parameters(model: Decoder) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that learn as (hidden matrices, the rest): embeddings, head, routers, norms and biases."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in learning(model).items():
        outer = name.startswith(("embed_tokens", "lm_head")) or ".gate.weight" in name
        (rest if outer or parameter.dim() < 2 else matrices).append(parameter)
    return matrices, rest


class Optimizers:
    """The optimisers of one model, stepped together, with one learning-rate factor for the schedule."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.optimizers = optimizers
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def step(self, factor: float = 1.0) -> None:
        """Update with every learning rate multiplied by `factor`, then forget the gradients."""
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            optimizer.step()
            for group in optimizer.param_groups:  # what a fused update leaves out, and `LoRA.dense` looks at
                torch.autograd.graph.increment_version(group["params"])
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All state as flat names and tensors, for a checkpoint."""
        result: dict[str, Tensor] = {}
        for number, optimizer in enumerate(self.optimizers):
            for index, entries in optimizer.state_dict()["state"].items():
                result |= {f"{number}.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        return result

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = defaultdict(dict)
            for key, value in tensors.items():
                owner, index, name = key.split(".", 2)
                if int(owner) == number:
                    state[int(index)][name] = value
            optimizer.load_state_dict({"state": dict(state), "param_groups": optimizer.state_dict()["param_groups"]})


def clip_gradients(model: nn.Module, most: float) -> float:
    """Scale the gradients down to a norm of at most `most`, all together; returns the norm they had.

    Raises UserError if that isn't a finite number: an update from such gradients would spoil every weight.
    """
    norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), most))
    if not math.isfinite(norm):
        raise UserError(
            f"the gradient has become {norm}: learning has diverged, and nothing was updated with it; "
            "begin again with a lower learning rate or a longer warm-up"
        )
    return norm


def muon(model: Decoder, lr: float, adamw_lr: float, weight_decay: float = 0.0) -> Optimizers:
    """Muon at `lr` for the hidden matrices, AdamW at `adamw_lr` for the rest."""
    matrices, rest = split_parameters(model)
    hidden = Muon(matrices, lr, weight_decay=weight_decay)
    return Optimizers([hidden, *([_adamw(rest, adamw_lr, weight_decay)] if rest else [])])


def adamw(model: Decoder, lr: float, weight_decay: float = 0.0) -> Optimizers:
    """AdamW for everything, as the published recipes have it."""
    return Optimizers([_adamw(list(learning(model).values()), lr, weight_decay)])


def _adamw(parameters: list[nn.Parameter], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=lr, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)
