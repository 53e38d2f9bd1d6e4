"""LoRA: a frozen weight, and beside it a trained one of low rank (arXiv 2106.09685, section 4.1).

`add_lora` puts it into a network, in the place of the weights that are to learn. The network's own numbers don't change
any more; only the two factors of each weight are parameters with a gradient.
"""

import copy
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from longjing.errors import UserError
from longjing.model.decoder import Decoder
from longjing.model.layers.linear import Linear, Storage, Weight, dense, linear, replace_weight
from longjing.model.layers.moe import Experts
from longjing.model.layers.packed_product import Matrix

_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
EXPERTS = ("gate_up_proj", "down_proj")  # of `Experts`, which `targets` calls `experts`


@dataclass(frozen=True)
class LoRAConfig:
    """An adapter's shape. `targets`: names of projections (`q_proj`, ...), `experts`; empty: all projections, but of
    a mixture only those of attention.

    (PEFT and transformers 5 take the names of a mixture's feed-forward projections for those of the experts, so an
    adapter of its dense layers or shared experts is one that they can't read.)
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """The factor on the product of the two factors."""
        return self.alpha / self.rank


class LoRA(Storage):
    """The weight `base + scale * b @ a`: `a` `[rank, in]`, `b` `[out, rank]`, in stacks where the base is one.

    `a` begins at random and `b` at zero, so that at first nothing changes. The factors are float32 whatever the base's
    numbers are: they take steps that are too small for bfloat16.
    """

    def __init__(self, base: Weight, shape: Sequence[int], config: LoRAConfig, device: torch.device) -> None:
        """`shape`: the base's, `[..., out, in]`."""
        super().__init__()
        *stack, rows, columns = shape
        self.base = base.requires_grad_(False) if isinstance(base, Tensor) else base
        self.scale = config.scale
        self.a = nn.Parameter(torch.empty(*stack, config.rank, columns, device=device))
        self.b = nn.Parameter(torch.zeros(*stack, rows, config.rank, device=device))
        self._dense: tuple[tuple[int, ...], Tensor] | None = None

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw `a` uniformly, as PEFT does; the same numbers on every device."""
        bound = 1 / math.sqrt(self.a.shape[-1])
        self.a.copy_(torch.empty(self.a.shape).uniform_(-bound, bound, generator=generator))

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return _adapted(x, self.base, self.a, self.b, self.scale, bias)

    def matrix(self) -> Matrix | None:
        return Matrix(self.base, (self.a, self.b), self.scale) if isinstance(self.base, Tensor) else None

    def unbind(self) -> "Sequence[Storage]":
        bases: Sequence[Weight] = self.base.unbind()
        return [_Adapted(base, a, b, self.scale) for base, a, b in zip(bases, self.a, self.b, strict=True)]

    def dense(self) -> Tensor:
        """The sum of both (see `Storage`). Without gradients it is computed once for each state of the factors:
        decoding with absorbed latent attention asks for it at every step."""
        if torch.is_grad_enabled() or (self.a.is_cuda and torch.cuda.is_current_stream_capturing()):
            return _sum(self.base, self.a, self.b, self.scale)
        # With their addresses: a reference policy's factors may stand in their place for a while.
        state = (self.a._version, self.b._version, self.a.data_ptr(), self.b.data_ptr())
        if self._dense is None or self._dense[0] != state:
            self._dense = state, _sum(self.base, self.a, self.b, self.scale)
        return self._dense[1]


class _Adapted(Storage):
    """One matrix of a stack: views of its parts, which belong to the stack."""

    base: Weight
    a: Tensor
    b: Tensor
    scale: float

    def __init__(self, base: Weight, a: Tensor, b: Tensor, scale: float) -> None:
        super().__init__()
        # Not as attributes of a module, which would register them once more.
        self.__dict__.update(base=base, a=a, b=b, scale=scale)

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return _adapted(x, self.base, self.a, self.b, self.scale, bias)

    def unbind(self) -> "Sequence[Storage]":
        raise TypeError("a matrix is no stack")

    def dense(self) -> Tensor:
        return _sum(self.base, self.a, self.b, self.scale)


def _sum(base: Weight, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The base with the product of the two factors added, in the base's number format: rounded once."""
    numbers = dense(base)
    return (numbers + b @ a * scale).to(numbers.dtype)


def _adapted(x: Tensor, base: Weight, a: Tensor, b: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    """`x` `[..., in]` through the base and the two factors. The product of the factors is never formed."""
    return linear(x, base, bias) + _through(_through(x, a) * scale, b)


def _through(x: Tensor, factor: Tensor) -> Tensor:
    """`x` through a factor, in the number format of `x`."""
    return F.linear(x, factor.to(x.dtype))


def add_lora(model: Decoder, config: LoRAConfig, seed: int = 0) -> None:
    """Freeze the network, and put an adapter beside each weight that `config.targets` names. MTP modules, the router,
    embeddings, head and norms have none. The factors are drawn from `seed`.

    Raises UserError for a target that the network hasn't got, or that has an adapter already.
    """
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for module, attribute, _ in _chosen(model, config):
        weight: Weight = getattr(module, attribute)
        if isinstance(weight, LoRA):
            raise UserError("the network has an adapter already; merge it first")
        # A projection knows its shape; a storage may have no numbers to show.
        shape = [module.out_features, module.in_features] if isinstance(module, Linear) else dense(weight).shape
        adapter = LoRA(weight, shape, config, model.embed_tokens.weight.device)
        adapter.initialise(generator)
        replace_weight(module, attribute, adapter)


def _chosen(model: Decoder, config: LoRAConfig) -> Iterator[tuple[nn.Module, str, str]]:
    """The weights that the config means: each one's module, its attribute there, and the module's name."""
    named = [(f"layers.{name}", module) for name, module in model.layers.named_modules()]
    names = {name.rpartition(".")[2] for name, module in named if isinstance(module, Linear)}
    mixtures = any(isinstance(module, Experts) for _, module in named)
    choices = sorted(names) + ["experts"] * mixtures
    targets: Collection[str] = config.targets or {name for name in names if not (mixtures and name in _FEED_FORWARD)}
    if unknown := [target for target in targets if target not in choices]:
        raise UserError(f"this network has no {', '.join(unknown)} to adapt; it has {', '.join(choices)}")
    for name, module in named:
        if isinstance(module, Linear) and name.rpartition(".")[2] in targets:
            yield module, "weight", name
        elif isinstance(module, Experts) and "experts" in targets:
            yield from ((module, part, name) for part in EXPERTS)


def has_adapter(model: Decoder) -> bool:
    return next(adapters(model), None) is not None


def describe(model: Decoder) -> str:
    """The shape of the network's adapter, in words."""
    adapted = list(adapters(model))
    adapter = adapted[0][3]
    rank = adapter.a.shape[-2]
    names = {name.rpartition(".")[2] for _, _, name, _ in adapted}
    return f"rank {rank}, alpha {adapter.scale * rank:g}, targets {', '.join(sorted(names))}"


def has_shape(model: Decoder, config: LoRAConfig) -> bool:
    """Whether the network's adapter is one of this shape, beside the same weights."""
    existing = {(name, attribute): adapter for _, attribute, name, adapter in adapters(model)}
    alike = all(each.a.shape[-2] == config.rank and each.scale == config.scale for each in existing.values())
    return alike and existing.keys() == {(name, attribute) for _, attribute, name in _chosen(model, config)}


def adapters(model: Decoder) -> Iterator[tuple[nn.Module, str, str, LoRA]]:
    """Every adapter of the network: the module that it is in, under which attribute, the module's name, and itself."""
    for name, module in model.named_modules():
        for attribute in ("weight", *EXPERTS):
            if isinstance(adapter := module._modules.get(attribute), LoRA):
                yield module, attribute, name, adapter


@torch.no_grad()
def merge_lora(model: Decoder) -> None:
    """Add every adapter into its weight, which is dense then and learns again, as all of the network does."""
    for module, attribute, _, adapter in list(adapters(model)):
        replace_weight(module, attribute, nn.Parameter(adapter.dense().clone()))
    model.requires_grad_(True)


def without_adapters(model: Decoder) -> Decoder:
    """Another network of the same tensors, but for the adapters, which it hasn't got."""
    tensors = [*model.parameters(), *model.buffers()]
    other = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module, attribute, _, adapter in list(adapters(other)):
        replace_weight(module, attribute, adapter.base)
    return other
