"""What the layers of one forward pass share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from longjing.model.batch_invariance import pad_rows, unpad
from longjing.model.layers.packed_attention import PackedSegments


class Cache(Protocol):
    """Keeps what attention needs of earlier tokens. Whoever passes it owns its memory and its rows."""

    def update(self, layer: int, entries: Tensor) -> Tensor:
        """Store `entries` `[batch, length, ...]` of the new tokens; return `[batch, context, ...]`: a latent's numbers,
        or `[..., 2, heads, width]`, keys and values.

        The caller's mask says which of the returned entries each new token may look at.
        """


@dataclass
class Context:
    """What a forward pass knows beside the hidden states: positions, who sees whom, and the experts' book.

    `Decoder.context` makes it. `cos`, `sin`: see `cos_and_sin`, `[batch, length, 1, rotary_dim]`. `mask`: bool
    `[batch, 1, length, context]`, True where a token may look, or the same as numbers to be added to the scores (0 and
    -inf); None means causal over the tokens given, which is not enough for whoever reads a cache. With a `cache`, new
    entries are stored in it; `reads_cache` says whether tokens also look at what was there before (decoding) or
    only at each other (the first chunk of a prompt). `packed`: tokens look at what precedes them in their own
    segment, and there is no mask.

    `eager_attention`: the scores are written out, and summed in an order that the batch doesn't change
    (`batch_invariant_attention`), which latent attention does without expanding its latents. `batch_invariant`:
    products of few rows get more; for that each row's last token is repeated `padding` times, unseen.

    `replay`: experts to use instead of choosing, `[batch, length, mixture layers, experts per token]`. `routes` and
    `balance` collect, layer by layer, the experts taken and the sequence-wise balance losses. With `recomputes`, layers
    keep only their input for the backward pass (see `run`); what they compute again there is `repeated`.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None = None
    packed: PackedSegments | None = None
    cache: Cache | None = None
    reads_cache: bool = False
    eager_attention: bool = False
    batch_invariant: bool = False
    padding: int = 0
    replay: Tensor | None = None
    routes: list[Tensor] = field(default_factory=list)
    balance: list[Tensor] | None = None
    recomputes: bool = False
    repeated: bool = False

    def run(self, layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`layer(*inputs, self)`; with `recomputes`, by activation checkpointing (arXiv 1604.06174).

        What a layer notes here it notes once, and the second time it takes the experts of the first: the choice is the
        one thing that a difference in rounding could turn into another.
        """
        if not self.recomputes:
            return layer(*inputs, self)
        before, passes = len(self.routes), 0

        def forward(*inputs: Tensor) -> Tensor:
            nonlocal passes
            passes += 1
            return layer(*inputs, self if passes == 1 else self._repeating(before))

        output: Tensor = checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False)
        return output

    def _repeating(self, before: int) -> "Context":
        """What a layer that comes after `before` mixtures needs to do again what it did."""
        chosen = self.routes[before : before + 1]
        return replace(
            self, replay=chosen[0][:, :, None] if chosen else None, routes=[],
            balance=None if self.balance is None else [], recomputes=False, repeated=True,
        )  # fmt: skip

    def pad_rows(self, x: Tensor) -> Tensor:
        """`x` `[batch, length, ...]` with its last token repeated `padding` times."""
        return pad_rows(x, self.padding, dim=1)

    def unpad(self, x: Tensor) -> Tensor:
        """The inverse of `pad_rows`."""
        return unpad(x, self.padding, dim=1)
