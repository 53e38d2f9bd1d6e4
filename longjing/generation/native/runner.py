"""Forward passes over the cache: reading prompts, and decoding with or without drafts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from longjing.generation.native.batch import Batch, Running
from longjing.generation.native.cache import RectangleCache
from longjing.generation.native.graphs import Graphs
from longjing.generation.native.sampling import SamplerOutput
from longjing.model.decoder import Decoder
from longjing.model.layers.context import Context
from longjing.model.layers.moe import Experts

_PART = 512  # tokens of a text that is read on, in one pass


@dataclass(frozen=True)
class StepOutput:
    """What a decoding step sampled: of row i the first `counts[i]` of `tokens[i]`; and the drafts it made.

    `top`: the likeliest tokens at the same places, with their log-probabilities, where a row wants to know.
    """

    tokens: list[list[int]]
    logprobs: list[list[float]]
    counts: list[int]
    drafts: list[int] | None = None
    top: list[list[list[tuple[int, float]]]] | None = None

    @classmethod
    def of(
        cls, draws: Sequence[SamplerOutput], counts: list[int], drafts: list[int] | None = None
    ) -> "StepOutput":
        """`draws`: of one token after the other, each for all rows."""
        tokens = torch.stack([draw.tokens for draw in draws], dim=1).tolist()
        logprobs = torch.stack([draw.logprobs for draw in draws], dim=1).tolist()
        top = None
        if all(draw.top is not None for draw in draws):
            pairs = [(draw.top.indices.tolist(), draw.top.values.tolist()) for draw in draws if draw.top]
            top = [
                [list(zip(ids[row], values[row], strict=True)) for ids, values in pairs]
                for row in range(len(counts))
            ]
        return cls(tokens, logprobs, counts, drafts, top)


class ModelRunner:
    """A decoder and its cache. `drafts`: whether the first prediction module's cache is kept too. `batch_invariant`: as
    in `Engine`."""

    def __init__(
        self, model: Decoder, cache: RectangleCache, drafts: bool, records: bool, batch_invariant: bool
    ) -> None:
        self.model, self.cache, self.drafts, self.records = model, cache, drafts, records
        self.batch_invariant = batch_invariant
        self._device = model.embed_tokens.weight.device
        # Without `has_grouped_product`, experts are run by the counts of their tokens, which a graph can't wait for.
        experts = (module for module in model.layers.modules() if isinstance(module, Experts))
        graphs = self._device.type == "cuda" and all(
            e.has_grouped_product(model.embed_tokens.weight.dtype) for e in experts
        )
        self._graphs = Graphs(self._logits, cache) if graphs else None

    def read(self, sequences: Sequence[Running], first_row: int) -> int:
        """Store all tokens but the pending ones in rows from `first_row` on; returns how many were read.

        The same causal pass as in training, padded on the right. Padding is behind what counts, so nothing
        that counts sees it, and decoding overwrites its entries before it looks at them. Sequences that saved
        their routes replay them: all must have, or none.
        """
        length = max(sequence.stored for sequence in sequences)
        if not length:
            return 0
        padded = pad_sequence([torch.tensor([*s.prompt, *s.tokens]) for s in sequences], batch_first=True)
        tokens = padded.to(self._device)
        routes = [s.routes for s in sequences if s.routes is not None]
        replay = pad_sequence(routes, batch_first=True).long() if routes else None
        positions = torch.arange(length, device=self._device).expand(len(sequences), -1)
        self.cache.at_start(first_row)
        context = self.model.context(
            positions, cache=self.cache, replay=replay, batch_invariant=self.batch_invariant
        )
        hidden = self.model.hidden(tokens[:, :-1], context)
        if self.records:
            self.cache.store_routes(context.routes)
        if self.drafts:
            self.model.next_hidden(0, tokens[:, 1:], hidden, replace(context, replay=None, routes=[]))
        return sum(sequence.stored for sequence in sequences)

    def read_on(self, sequences: Sequence[Running], known: Sequence[int], first_row: int) -> int:
        """As `read`, for sequences of which the first `known` columns are there.

        Who has less to read than others reads its last token again and again, which changes nothing.
        """
        padded = pad_sequence([torch.tensor([*s.prompt, *s.tokens]) for s in sequences], batch_first=True)
        text = padded.to(self._device)
        starts, ends = torch.tensor([known, [s.stored for s in sequences]], device=self._device)[..., None]
        length = max(1, int((ends - starts).max()))
        for part in torch.arange(length, device=self._device).split(_PART):
            columns = torch.minimum(starts + part, ends - 1)
            longest = int(columns.max()) + 1
            mask = torch.arange(longest, device=self._device) <= columns[..., None]
            self.cache.at(columns, longest, first_row)
            context = self._context(columns, mask)
            hidden = self.model.hidden(text.gather(1, columns), context)
            if self.records:
                self.cache.store_routes(context.routes)
            if self.drafts:
                following = text.gather(1, columns + 1)
                self.model.next_hidden(0, following, hidden, replace(context, routes=[]))
        return int((ends - starts).sum())

    def _context(self, columns: Tensor, mask: Tensor) -> Context:
        """Of tokens at `columns` `[rows, length]` that see what `mask` `[rows, length, longest]` lets them see."""
        return self.model.context(
            columns, mask[:, None], self.cache, reads_cache=True, batch_invariant=self.batch_invariant
        )

    def decode(self, batch: Batch, longest: int, bias: Tensor | None = None) -> StepOutput:
        """Read the pending tokens and draw the next. `longest`: the most columns that a row has in use; `bias`
        `[rows, vocabulary]`: of the guides."""
        if self._graphs:
            logits = self._graphs.logits(batch, longest)
        else:
            logits = self._logits(batch.pending, batch.stored, longest + 1)
        draw = batch.sampler.draw(logits, batch.positions, bias)
        batch.advance(draw.tokens, 1)
        return StepOutput.of([draw], [1] * len(draw.tokens))

    def _logits(self, pending: Tensor, stored: Tensor, longest: int) -> Tensor:
        """Logits `[rows, vocabulary]` after reading `pending`, whose entries go to columns `stored`."""
        columns = stored[:, None]
        mask = torch.arange(longest, device=self._device) <= columns[..., None]
        self.cache.at(columns, longest)
        context = self._context(columns, mask)
        hidden = self.model.hidden(pending[:, None], context)
        if self.records:
            self.cache.store_routes(context.routes)
        return self.model.head(hidden[:, 0], context)

    def speculate(self, batch: Batch, longest: int) -> StepOutput:
        """Read the pending tokens and their drafts in one pass, draw one token or two, and draft again.

        The module of multi-token prediction drafts (DeepSeek-V3, section 2.2). Every token is drawn from
        the decoder's own distribution with the number that belongs to its position, as `decode` would; a
        draft only decides whether the second draw was made after the right token. So the samples are the
        same, and a bad draft costs nothing but time. (Speculative sampling, arXiv 2211.17192, would accept
        more drafts, but then a sample would depend on them.)
        """
        columns = batch.stored[:, None] + torch.arange(2, device=self._device)
        places = torch.arange(longest + 2, device=self._device)
        mask = places <= columns[..., None]
        self.cache.at(columns, longest + 2)
        context = self._context(columns, mask)
        hidden = self.model.hidden(torch.stack((batch.pending, batch.draft), dim=1), context)
        if self.records:
            self.cache.store_routes(context.routes)
        logits, positions = self.model.head(hidden, context), batch.positions
        draws = [batch.sampler.draw(logits[:, ahead], positions + ahead) for ahead in range(2)]
        tokens = torch.stack([draw.tokens for draw in draws], dim=1)
        accepted = (tokens[:, 0] == batch.draft).long()

        # A pair (hidden state, next token) that stands on a rejected draft is overwritten in the next step.
        mask = mask & ((places < batch.gap[:, :1]) | (places >= batch.gap[:, 1:]))[:, None]
        context = self._context(columns, mask)
        ahead = self.model.next_hidden(0, tokens, hidden, context)
        last = self.model.head(ahead[batch.rows, accepted], context)
        batch.advance(tokens[batch.rows, accepted], 1 + accepted)
        batch.draft = batch.sampler.draw(last, batch.positions).tokens
        return StepOutput.of(draws, (1 + accepted).tolist(), batch.draft.tolist())
