"""Decoding steps captured as CUDA graphs: one launch in place of hundreds."""

from collections.abc import Callable

import torch
from torch import Tensor

from longjing.generation.native.kv_cache import KVCache
from longjing.generation.native.sequence import Batch

# (pending tokens, stored columns, columns to read) -> logits `[rows, vocabulary]`
Forward = Callable[[Tensor, Tensor, int], Tensor]

COLUMNS = 256  # the context is padded to a multiple


class Graphs:
    """`forward` with its inputs padded to a few shapes, each captured when it is first met.

    Rows are padded to a power of two, with rows of the cache that are free. A graph holds addresses:
    weights must be updated in place, and a cache cut into other columns begins anew. Without a CUDA device
    nothing is captured, and the padded shapes just run.
    """

    def __init__(self, forward: Forward, cache: KVCache) -> None:
        self._forward, self._cache, self._columns = forward, cache, 0
        self._captured: dict[tuple[int, int], tuple[Tensor, Tensor, Callable[[], Tensor]]] = {}

    def logits(self, batch: Batch, longest: int) -> Tensor:
        """Logits `[rows, vocabulary]` of the pending tokens, valid until the next call."""
        count = len(batch.pending)
        rows = min(1 << (count - 1).bit_length(), self._cache.rows)  # the next power of two
        columns = min(-(-(longest + 1) // COLUMNS) * COLUMNS, self._cache.columns)  # rounded up, to a multiple
        if self._columns != self._cache.columns:
            self._captured.clear()
            self._columns = self._cache.columns
        graph = self._captured.get((rows, columns))
        if graph is None:
            pending, stored = batch.pending.new_zeros(rows), batch.pending.new_zeros(rows)
        else:
            pending, stored, _ = graph
        pending[:count] = batch.pending
        stored[:count] = batch.stored
        # Padding rows write to column 0 of free rows, which nobody reads before it is written anew.
        stored[count:] = 0
        if graph is None:  # after the inputs are there, since capturing also writes to the cache
            graph = pending, stored, self._capture(pending, stored, columns)
            self._captured[rows, columns] = graph
        _, _, replay = graph
        return replay()[:count]

    def _capture(self, pending: Tensor, stored: Tensor, columns: int) -> Callable[[], Tensor]:
        # The graph reads by address: its inputs must live as long as it does. All else `forward` makes itself.
        if pending.device.type != "cuda":
            return lambda: self._forward(pending, stored, columns)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        # Libraries set themselves up at the first call, which can't be captured.
        with torch.cuda.stream(side):
            self._forward(pending, stored, columns)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._forward(pending, stored, columns)

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay
