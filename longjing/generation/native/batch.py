"""The running sequences as tensors, which stay on the device from step to step."""

from collections import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from longjing.generation.native.logits_processors import batch_bias
from longjing.generation.native.sampling import Sampler
from longjing.generation.native.sequence import Sequence
from longjing.generation.request import LogitsProcessor


@dataclass
class Batch:
    """One entry `[rows]` for each running sequence; valid until rows come or go.

    `pending`: the last token, which isn't read yet. `stored`: columns of the cache in use. `positions`: how many
    tokens were generated, which is the position of the next in the completion. `processors`: the logits processors of
    each row and its list of tokens, which grows; None if no row has any.
    """

    sequences: abc.Sequence[Sequence]
    sampler: Sampler
    rows: Tensor
    pending: Tensor
    stored: Tensor
    positions: Tensor
    processors: list[tuple[list[LogitsProcessor], list[int]]] | None

    @classmethod
    def of(cls, sequences: abc.Sequence[Sequence], device: torch.device) -> "Batch":
        """Of the sequences in rows 0 to n-1."""

        def column(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        guided = any(sequence.processors for sequence in sequences)
        return cls(
            sequences,
            Sampler.of([sequence.request.sampling for sequence in sequences], device),
            torch.arange(len(sequences), device=device),
            column(
                [sequence.tokens[-1] if sequence.tokens else sequence.prompt[-1] for sequence in sequences]
            ),
            column([sequence.stored for sequence in sequences]),
            column([len(sequence.tokens) for sequence in sequences]),
            [(sequence.processors, sequence.tokens) for sequence in sequences] if guided else None,
        )

    def bias(self, vocabulary: int) -> Tensor | None:
        """What the logits processors add to the next logits, `[rows, vocabulary]`; None if there are none."""
        return None if self.processors is None else batch_bias(self.processors, vocabulary, self.rows.device)

    def advance(self, pending: Tensor, by: Tensor | int) -> None:
        """Each row generated `by` tokens, the last of which are `pending`."""
        self.pending = pending
        self.stored = self.stored + by
        self.positions = self.positions + by
