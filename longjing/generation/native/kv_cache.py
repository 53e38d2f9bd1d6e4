"""The KV cache: a rectangle of contiguous rows, one row per running sequence."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from longjing.errors import UserError
from longjing.model.config import ModelConfig
from longjing.model.layers.scaled_dot_product import COLUMNS


class KVCache:
    """Memory for `area` tokens in every layer, cut into rows of equal length.

    Rows, not pages: attention reads a row as it lies, where gathering pages would cost three times the
    traffic. The area is fixed; `fit` cuts it anew, into more and shorter rows or fewer and longer ones.
    Rows in use are 0 to n-1. Whoever runs the model says beforehand where the next entries go: `target_prompts`
    (whole rows, from the first column on) or `target_columns` (a few columns of each row, when decoding).

    `shapes`: of a token's entry in each layer. That of keys and values, `(2, heads, width)`, lies in memory head by
    head, each with the row's columns side by side, as products want to read it.

    A further layer of int16 keeps the experts that each token took: `routes` are (mixture layers, experts per
    token), or zeros for none.
    """

    def __init__(
        self,
        area: int,
        shapes: Sequence[tuple[int, ...]],
        dtype: torch.dtype,
        device: torch.device,
        routes: tuple[int, int],
    ) -> None:
        self.area, self.dtype, self.device, self._route_shape = area, dtype, device, routes
        # The last is the layer of the routes.
        self._shapes = [*shapes, (prod(routes),)]
        self.keeps_routes = prod(routes) > 0
        dtypes = [dtype] * len(shapes) + [torch.int16]
        # One allocation a layer for the engine's whole life: `fit` only cuts it otherwise.
        self._flat = [
            torch.empty(area * prod(shape), dtype=each, device=device)
            for shape, each in zip(self._shapes, dtypes, strict=True)
        ]
        self._zeroed = 0  # tokens' worth of memory that was laid out before
        self._target: tuple[Tensor, Tensor] | None = None
        self._lay_out(rows=1, columns=1)

    @classmethod
    def for_model(cls, config: ModelConfig, size: int, weight: Tensor, drafts: bool, record_routes: bool) -> "KVCache":
        """A cache of as many tokens as `size` bytes hold of a model with weights like `weight`. `drafts`: one layer
        more, for the prediction module. Raises UserError if that is less than two."""
        layers = config.num_hidden_layers + drafts
        mixtures = sum(map(config.has_experts, range(config.num_hidden_layers))) if record_routes else 0
        routes = mixtures, config.num_experts_per_tok
        # A CPU absorbs latent attention in float32.
        dtype = torch.float32 if weight.device.type == "cpu" and config.is_latent else weight.dtype
        token_bytes = layers * config.cache_width * dtype.itemsize + 2 * routes[0] * routes[1]
        area = size // token_bytes
        if area < 2:
            raise UserError(
                f"the engine needs a cache for at least two tokens ({2 * token_bytes} bytes), not cache_bytes = {size}"
            )
        shape = (config.cache_width,) if config.is_latent else (2, config.num_key_value_heads, config.head_dim)
        return cls(area, [shape] * layers, dtype, weight.device, routes)

    def _lay_out(self, rows: int, columns: int) -> None:
        """Lay the rectangle out. What it covers for the first time is zeroed: attention multiplies what it masks by
        zero, and zero times NaN is NaN. The rest stays untouched, and so costs no memory yet."""
        self.rows, self.columns = rows, columns
        size, self._views = rows * columns, []
        for flat, shape in zip(self._flat, self._shapes, strict=True):
            width = prod(shape)
            flat[self._zeroed * width : size * width].zero_()
            self._views.append(_cut(flat[: size * width], rows, columns, shape))
        # What was laid out once holds finite numbers from then on, whoever's they are.
        self._zeroed = max(self._zeroed, size)

    def fit(self, rows: int, columns: int, used: int, longest: int) -> None:
        """Make room for `rows` times `columns`, which must not exceed the area.

        The first `used` rows keep their first `longest` columns. Rows are as many as asked for, since more
        cost nothing later; columns get slack (a quarter, at least 64) as far as the area has it.
        """
        anew = not used and self.device.type == "cpu"  # elsewhere graphs hold addresses
        if rows <= self.rows and columns <= self.columns and not anew:
            return
        wider = max(columns + 64, columns * 5 // 4) if columns > self.columns or anew else self.columns
        wider = -(-wider // COLUMNS) * COLUMNS
        old_views, old_shape = self._views, (self.rows, self.columns)
        self._lay_out(rows, min(wider, self.area // rows))
        if (self.rows, self.columns) != old_shape:  # where an entry lies depends on both
            for old, new in zip(old_views, self._views, strict=True):
                new[:used, :longest] = old[:used, :longest].clone()  # old and new overlap in memory

    def readable(self, longest: int) -> int:
        """How many columns to read, for the first `longest` of them. On a CPU, products in bfloat16 copy what isn't a
        whole number of rows, so that all are read where those aren't many more."""
        if self.dtype != torch.bfloat16 or self.device.type != "cpu":
            return longest
        return self.columns if self.columns <= 3 * longest else min(-(-longest // COLUMNS) * COLUMNS, self.columns)

    def copy(self, sources: Sequence[int], targets: Sequence[int], longest: int) -> None:
        """Copy the first `longest` columns of rows onto others; no row may be both."""
        for view in self._views:
            view[targets, :longest] = view[sources, :longest]

    def extract(self, row: int, length: int) -> list[Tensor]:
        """A copy of the first `length` columns of a row, `[length, *shape]` of every layer."""
        return [view[row, :length].clone() for view in self._views]

    def insert(self, row: int, length: int, entries: Sequence[Tensor]) -> None:
        """Store the first `length` of entries that were extracted."""
        for view, layer in zip(self._views, entries, strict=True):
            view[row, :length] = layer[:length]

    def target_prompts(self, first_row: int) -> None:
        """The next entries are those of whole prompts, for consecutive rows from `first_row` on."""
        self._first_row, self._target = first_row, None

    def target_columns(self, columns: Tensor, longest: int, first_row: int = 0) -> None:
        """The next entries go to `columns` `[n, length]` of rows from `first_row` on; `update` returns `longest`."""
        rows = torch.arange(first_row, first_row + len(columns), device=columns.device)[:, None]
        self._first_row, self._target, self._longest = first_row, (rows, columns), longest

    def update(self, layer: int, entries: Tensor) -> Tensor:
        """Store `entries` `[batch, length, *shape]` in the target; return the rows' `[batch, longest, *shape]`."""
        view = self._views[layer]
        rows = view[self._first_row : self._first_row + len(entries)]
        if self._target is None:
            return rows[:, : entries.shape[1]].copy_(entries)
        # A row writes wherever it has got to: rows are of different lengths.
        view[self._target] = entries.to(view.dtype)
        return rows[:, : self._longest]

    def store_routes(self, routes: Sequence[Tensor]) -> None:
        """Store the experts taken, one `[batch, length, experts per token]` per mixture layer, if they are kept."""
        if self.keeps_routes:
            self.update(-1, torch.cat([layer.to(torch.int16) for layer in routes], dim=-1))

    def routes(self, row: int, length: int) -> Tensor | None:
        """The experts taken in a row, `[length, mixture layers, experts per token]`; or None."""
        if not self.keeps_routes:
            return None
        with torch.inference_mode(False):  # an inference tensor could not index in the trainer
            return self._views[-1][row, :length].clone().view(length, *self._route_shape)


def _cut(flat: Tensor, rows: int, columns: int, shape: tuple[int, ...]) -> Tensor:
    """A layer's memory as `[rows, columns, *shape]`."""
    if len(shape) == 1:
        return flat.view(rows, columns, *shape)
    parts, heads, width = shape
    return flat.view(parts, rows, heads, columns, width).permute(1, 3, 0, 2, 4)
