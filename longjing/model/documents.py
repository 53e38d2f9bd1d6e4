"""Attention within documents that lie side by side in one row, without computing what nobody may see."""

from dataclasses import dataclass

import torch
from torch import Tensor

_STEP = 32  # tokens: documents are filled up to a multiple of this, so that few shapes occur


@dataclass(frozen=True)
class Documents:
    """Where the documents of packed rows lie.

    `groups`: for each group of documents of about one length, its tokens' places in the flattened rows,
    `[documents, width]`, a short one filled up with its last. `places` `[rows * length]`: where among all that is
    gathered each token of the rows is found again.
    """

    groups: list[Tensor]
    places: Tensor

    @classmethod
    def of(cls, segments: Tensor) -> "Documents":
        """From `segments` `[rows, length]`: a document is a run of one number within a row."""
        rows, length = segments.shape
        begins = torch.ones_like(segments, dtype=torch.bool)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        starts = begins.flatten().nonzero()[:, 0]
        lengths = torch.diff(starts, append=starts.new_tensor([rows * length]))
        widths = (lengths + _STEP - 1) // _STEP * _STEP
        groups, places, gathered = [], torch.empty_like(segments.flatten()), 0
        for width in widths.unique().tolist():
            chosen = widths == width
            columns = torch.arange(width, device=segments.device)
            inside = columns < lengths[chosen, None]
            tokens = starts[chosen, None] + columns.minimum(lengths[chosen, None] - 1)
            places[tokens[inside]] = gathered + inside.flatten().nonzero()[:, 0]
            groups.append(tokens)
            gathered += tokens.numel()
        return cls(groups, places)

    def gather(self, x: Tensor) -> list[Tensor]:
        """`x` `[rows, length, ...]` -> for each group `[documents, width, ...]`."""
        flat = x.flatten(0, 1)
        return [flat.index_select(0, group.flatten()).unflatten(0, group.shape) for group in self.groups]

    def scatter(self, parts: list[Tensor], shape: torch.Size) -> Tensor:
        """The inverse of `gather`; what filled documents up is dropped. `shape`: (rows, length)."""
        flat = torch.cat([part.flatten(0, 1) for part in parts])
        return flat.index_select(0, self.places).unflatten(0, shape)
