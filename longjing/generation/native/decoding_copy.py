"""The network that decodes, where it isn't the very one that learns: in another number format, or packed for a CPU."""

import copy
import weakref

import torch
from torch import Tensor, nn

from longjing.model.decoder import Decoder
from longjing.model.layers.linear import Linear, replace_weight
from longjing.model.layers.lora import LoRA
from longjing.model.layers.packed_linear import PackedLinear
from longjing.model.layers.packed_product import can_pack
from longjing.model.layers.router import Router


class DecodingCopy:
    """`model`, a network with the weights of `source` in `dtype`. `batch_invariant`: as in `Engine`.

    What needs no conversion is shared. Routers compute in float32 as they do while learning, and so do an adapter's
    factors until they meet a token; both are always shared. The source may go away: then its memory is freed.
    """

    def __init__(self, source: Decoder, dtype: torch.dtype, batch_invariant: bool = False) -> None:
        shared = {id(tensor): tensor for tensor in (*source.parameters(), *source.buffers())}
        self.model = copy.deepcopy(source, shared)
        self._converted: list[tuple[weakref.ref[Tensor], Tensor | PackedLinear]] = []
        plain: dict[int, nn.Parameter] = {}  # a head that is the embedding stays it, unless it is packed
        # What has to come out as in training takes the trainer's products (`packed_product.py`), of the plain numbers.
        packs = can_pack(source.embed_tokens.weight.device, dtype) and not batch_invariant
        # Absorbed attention takes a matrix apart, so it can't be packed.
        absorbed = {part for name, part in self.model.named_modules() if "kv_b_proj" in name.split(".")}
        for module in list(self.model.modules()):
            if isinstance(module, Router):
                continue
            for name, parameter in list(module.named_parameters(recurse=False)):
                multiplies = isinstance(module, Linear) and name == "weight"
                if isinstance(module, LoRA):
                    if name != "base":
                        continue
                    multiplies = parameter.dim() == 2
                if packs and multiplies and module not in absorbed:
                    packed = PackedLinear(parameter)
                    replace_weight(module, name, packed)
                    self._converted.append((weakref.ref(parameter), packed))
                elif parameter.dtype != dtype:
                    if id(parameter) not in plain:
                        plain[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
                        self._converted.append((weakref.ref(parameter), plain[id(parameter)]))
                    setattr(module, name, plain[id(parameter)])

    @torch.no_grad()
    def update(self) -> None:
        """Take over the present weights of the source, in place. (CUDA graphs hold addresses.)"""
        for reference, converted in self._converted:
            weight = reference()
            if weight is None or not weight.requires_grad:
                continue
            if isinstance(converted, PackedLinear):
                converted.pack(weight)
            else:
                converted.copy_(weight)


def needs_copy(source: Decoder, dtype: torch.dtype, batch_invariant: bool) -> bool:
    """Whether decoding in this format takes other tensors than the source's own."""
    weight = source.embed_tokens.weight
    return weight.dtype != dtype or (can_pack(weight.device, dtype) and not batch_invariant)
