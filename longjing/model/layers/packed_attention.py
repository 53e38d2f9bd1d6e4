"""Attention within the texts of packed rows ("variable-length" attention), without computing what nobody may see.

A kernel for it takes the texts' boundaries (`cu_seqlens`). PyTorch has none on a CPU, so the texts are gathered
into a few batches of about one length, each of which is plain causal attention.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_MULTIPLE = 32  # tokens: segments are padded to a multiple of this, so that few shapes occur


@dataclass(frozen=True)
class PackedSegments:
    """Where the segments of packed rows lie.

    `groups`: for each group of segments of about one length, the indices of its tokens in the flattened rows,
    `[segments, width]`; a short segment is padded with its last token. `origins` `[rows * length]`: where among all
    that is gathered each token of the rows is found again.
    """

    groups: list[Tensor]
    origins: Tensor

    @classmethod
    def of(cls, segments: Tensor) -> "PackedSegments":
        """The segments of packed rows, from `segments` `[rows, length]`: a segment is a run of one number within a
        row."""
        rows, length = segments.shape
        is_first = torch.ones_like(segments, dtype=torch.bool)
        is_first[:, 1:] = segments[:, 1:] != segments[:, :-1]
        starts = is_first.flatten().nonzero()[:, 0]
        lengths = torch.diff(starts, append=starts.new_tensor([rows * length]))
        # Rounded up, so that segments of nearly one length make one batch.
        widths = (lengths + _MULTIPLE - 1) // _MULTIPLE * _MULTIPLE
        groups: list[Tensor] = []
        origins, gathered = torch.empty_like(segments.flatten()), 0
        for width in widths.unique().tolist():
            group_starts, group_lengths = starts[widths == width, None], lengths[widths == width, None]
            columns = torch.arange(width, device=segments.device)
            is_token = columns < group_lengths
            # Padding repeats a token behind all others: causal attention never shows it to one that counts.
            tokens = group_starts + columns.minimum(group_lengths - 1)
            # Where each token went, so that the way back is one gather.
            origins[tokens[is_token]] = gathered + is_token.flatten().nonzero()[:, 0]
            groups.append(tokens)
            gathered += tokens.numel()
        return cls(groups, origins)

    def gather(self, x: Tensor) -> list[Tensor]:
        """The segments of `x` `[rows, length, ...]`: for each group `[segments, width, ...]`."""
        # In one go: the gradient of each selection is a tensor of the size of all rows.
        gathered = x.flatten(0, 1).index_select(0, torch.cat([group.flatten() for group in self.groups]))
        parts = gathered.split([group.numel() for group in self.groups])
        return [part.unflatten(0, group.shape) for part, group in zip(parts, self.groups, strict=True)]

    def scatter(self, parts: list[Tensor], shape: torch.Size) -> Tensor:
        """The inverse of `gather`, without the padding. `shape`: (rows, length)."""
        flat = torch.cat([part.flatten(0, 1) for part in parts])
        return flat.index_select(0, self.origins).unflatten(0, shape)
