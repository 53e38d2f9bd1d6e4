"""Speculative decoding: a module guesses the token after next, and a step that guessed right yields two tokens.

Every token is drawn from the decoder's own distribution with the number that belongs to its position, as without
drafts: a draft only decides whether the second draw of a step was made after the right token. So the samples are the
same, and a bad draft costs nothing but time. (Speculative sampling, arXiv 2211.17192, would accept more drafts, but
then a sample would depend on them.)
"""

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

import torch

from longjing.errors import UserError
from longjing.generation.native.runner import ModelRunner
from longjing.generation.native.sampling import StepOutput
from longjing.generation.native.scheduler import EngineStatistics
from longjing.generation.native.sequence import Batch
from longjing.model.config import ModelConfig


def can_draft(config: ModelConfig, speculate: bool | Literal["auto"]) -> bool:
    """Whether an engine with this setting drafts. Raises UserError if it must and can't."""
    if speculate is True and not config.num_nextn_predict_layers:
        raise UserError('speculate = True needs a model with a multi-token prediction layer; try "auto"')
    return bool(speculate and config.num_nextn_predict_layers)


@dataclass
class AdaptiveDrafting:
    """Whether to draft, decided by the clock.

    Both ways of decoding are tried for some steps each, and the one with fewer seconds per token is kept, until the
    batch has twice or half the rows it had then: drafts pay where reading the weights is what a step costs, and are a
    waste where arithmetic is.
    """

    trial: int = 8
    rows: int = 0
    drafting: bool = True
    _costs: dict[bool, list[float]] = field(default_factory=dict)

    def choose(self, rows: int) -> bool:
        """Whether the next step, of so many rows, should draft."""
        if not self.rows / 2 < rows < self.rows * 2:
            self.rows, self._costs = rows, {True: [], False: []}
        for way, costs in self._costs.items():
            if len(costs) < self.trial:
                return way
        return self.drafting

    def note(self, drafted: bool, tokens: int, seconds: float) -> None:
        """What a step so chosen cost."""
        costs = self._costs[drafted]
        if len(costs) < self.trial:
            costs.append(seconds / tokens)
            if all(len(costs) == self.trial for costs in self._costs.values()):
                # The first step of each way starts without drafts, or warms up.
                self.drafting = median(self._costs[True][1:]) < median(self._costs[False][1:])


class Drafter:
    """Decodes with drafts of the model's first multi-token prediction module (DeepSeek-V3, section 2.2).

    The module reads every token that the decoder reads, while it drafts. Columns that were decoded without it are a gap
    in its cache, one for each row, which it doesn't look at. `adaptive`: whether a step drafts is decided by the clock.
    """

    columns = 2  # that a step may fill of each row

    def __init__(self, runner: ModelRunner, adaptive: bool, stats: EngineStatistics) -> None:
        self._runner, self._stats = runner, stats
        self._adaptive = AdaptiveDrafting() if adaptive else None
        self._batch: Batch | None = None  # to which the tensors below belong
        self._drafts = self._gaps = torch.empty(0)  # `[rows]`, and starts and ends of gaps `[rows, 2]`

    def decode(self, batch: Batch, longest: int) -> StepOutput:
        """One token more for every row, or two; arguments as in `ModelRunner.decode`."""
        started, rows = time.perf_counter(), len(batch.sequences)
        # A logits processor must know a token before it speaks of the next, so two can't be drawn at once.
        free = batch.processors is None
        drafting = free and (self._adaptive is None or self._adaptive.choose(rows))
        if drafting:
            if batch is not self._batch:
                self._begin(batch)
            output = self._step(batch, longest)
            self._stats.drafted += rows
            self._stats.accepted += sum(output.counts) - rows
        else:
            self._batch = None  # the gaps widen
            output = self._runner.decode(batch, longest)
        if self._adaptive is not None and free:
            self._adaptive.note(drafting, sum(output.counts), time.perf_counter() - started)
        return output

    def _begin(self, batch: Batch) -> None:
        """Take up drafting of these rows, after widening their gaps by what was decoded without it."""
        for sequence in batch.sequences:
            if sequence.drafted < sequence.stored:
                start = sequence.gap[0] if any(sequence.gap) else sequence.drafted
                sequence.gap = (start, sequence.stored)
                sequence.drafted = sequence.stored
        device = batch.pending.device
        self._drafts = torch.tensor([sequence.draft for sequence in batch.sequences], device=device)
        self._gaps = torch.tensor([sequence.gap for sequence in batch.sequences], device=device)
        self._batch = batch

    def _step(self, batch: Batch, longest: int) -> StepOutput:
        """Read the pending tokens and their drafts in one pass, draw one token or two, and draft again."""
        runner, model = self._runner, self._runner.model
        columns = batch.stored[:, None] + torch.arange(2, device=batch.stored.device)
        # The draft is read before anybody knows whether it is right: where reading the weights is what a step costs,
        # two columns cost hardly more than one.
        tokens_read = torch.stack((batch.pending, self._drafts), dim=1)
        hidden, context = runner.forward(tokens_read, columns, longest + 2)
        logits, positions = model.head(hidden, context), batch.positions
        draws = [batch.sampler.draw(logits[:, ahead], positions + ahead) for ahead in range(2)]
        tokens = torch.stack([draw.tokens for draw in draws], dim=1)
        # The second draw was made behind the draft; it counts where the first draw was that very token.
        accepted = (tokens[:, 0] == self._drafts).long()

        # A pair (hidden state, next token) that stands on a rejected draft is overwritten in the next step.
        context = runner.context(columns, longest + 2, self._gaps)
        ahead = model.next_hidden(0, tokens, hidden, context)
        last = model.head(ahead[batch.rows, accepted], context)
        batch.advance(tokens[batch.rows, accepted], 1 + accepted)
        # With the number of the draw to come: if both networks agree on the distribution, they then agree on the token.
        self._drafts = batch.sampler.draw(last, batch.positions).tokens
        return StepOutput.of(draws, (1 + accepted).tolist(), self._drafts.tolist())
