"""Requests on their way, and the running ones as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from longjing.generation.native.logits_processors import guides
from longjing.generation.native.sampling import Sampler
from longjing.generation.request import Generation, LogitsProcessor, Request
from longjing.text.stop_strings import TextStream


@dataclass(eq=False)
class Running:
    """A request, waiting or in a row of the cache; that stores all tokens but the last, the pending one."""

    id: int
    request: Request
    prompt: tuple[int, ...]
    stream: TextStream | None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    routes: Tensor | None = None  # saved when the row was lost
    started: int = -1
    seen: int = 0  # length of the text handed out
    draft: int = 0  # what may follow the pending token; any guess is right, but few are fast
    drafted: int = 0  # columns that the prediction module knows, but for
    gap: tuple[int, int] = (0, 0)  # those in between, which were decoded without it
    top: list[list[tuple[int, float]]] = field(default_factory=list)
    reused: int = 0  # tokens of the prompt that were not read
    keeps: bool = False  # when it ends, what the cache has of it
    entries: list[Tensor] = field(
        default_factory=list
    )  # kept: at first, what is known of the prompt's beginning
    generation: Generation | None = None
    guides: list[LogitsProcessor] = field(init=False)

    def __post_init__(self) -> None:
        self.guides = guides(self.request.sampling, self.request.guide)

    @property
    def stored(self) -> int:
        """Columns in use once it has a row."""
        return len(self.prompt) + len(self.tokens) - 1

    def skip_undrafted(self) -> tuple[int, int]:
        """The gap, after widening it by what was decoded since the module last took part."""
        if self.drafted < self.stored:
            self.gap = (self.gap[0] if any(self.gap) else self.drafted, self.stored)
            self.drafted = self.stored
        return self.gap


@dataclass
class Batch:
    """The running rows as tensors `[rows]`; valid until rows come or go.

    `positions`: how many tokens each has generated. The others as in `Running`.
    """

    sampler: Sampler
    rows: Tensor
    pending: Tensor
    stored: Tensor
    positions: Tensor
    draft: Tensor
    gap: Tensor  # `[rows, 2]`

    @classmethod
    def of(cls, running: Sequence[Running], device: torch.device) -> "Batch":
        """Of the rows 0 to n-1."""

        def column(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.int64, device=device)

        return cls(
            Sampler.of([r.request.sampling for r in running], device),
            torch.arange(len(running), device=device),
            column([r.tokens[-1] if r.tokens else r.prompt[-1] for r in running]),
            column([r.stored for r in running]),
            column([len(r.tokens) for r in running]),
            column([r.draft for r in running]),
            torch.tensor([r.skip_undrafted() for r in running], device=device),
        )

    def advance(self, pending: Tensor, by: Tensor | int) -> None:
        """Each row generated `by` tokens, the last of which are `pending`."""
        self.pending = pending
        self.stored = self.stored + by
        self.positions = self.positions + by
