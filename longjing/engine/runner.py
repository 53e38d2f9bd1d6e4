"""Forward passes over the cache: reading prompts, and decoding with or without drafts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from longjing.engine.batch import Batch, Running
from longjing.engine.cache import RectangleCache
from longjing.model.decoder import Decoder


@dataclass(frozen=True)
class Drawn:
    """What a decoding step sampled: row i's first `counts[i]` of `tokens[i]`, and the drafts of what comes next."""

    tokens: list[list[int]]
    logprobs: list[list[float]]
    counts: list[int]
    drafts: list[int] | None = None


class Runner:
    """A decoder and its cache. `drafts`: whether the first prediction module's cache is kept too."""

    def __init__(self, model: Decoder, cache: RectangleCache, drafts: bool, records: bool) -> None:
        self.model, self.cache, self.drafts, self.records = model, cache, drafts, records
        self._device = model.embed_tokens.weight.device

    def read(self, sequences: Sequence[Running], first_row: int) -> int:
        """Store all tokens but the pending ones in rows from `first_row` on; returns how many were read.

        The same causal pass as in training, padded on the right. Padding is behind what counts, so nothing that
        counts sees it, and decoding overwrites its entries before it looks at them. Sequences that saved their
        routes replay them: all must have, or none.
        """
        length = max(sequence.stored for sequence in sequences)
        if not length:
            return 0
        texts = pad_sequence([torch.tensor(s.prompt + tuple(s.tokens)) for s in sequences], batch_first=True).to(self._device)
        routes = [s.routes for s in sequences if s.routes is not None]
        replay = pad_sequence(routes, batch_first=True).long() if routes else None
        positions = torch.arange(length, device=self._device).expand(len(sequences), -1)
        self.cache.at_start(first_row)
        context = self.model.context(positions, cache=self.cache, replay=replay)
        hidden = self.model.hidden(texts[:, :-1], context)
        if self.records:
            self.cache.store_routes(context.routes)
        if self.drafts:
            self.model.next_hidden(0, texts[:, 1:], hidden, replace(context, replay=None, routes=[]))
        return sum(sequence.stored for sequence in sequences)

    def decode(self, batch: Batch, longest: int) -> Drawn:
        """Read the pending tokens and draw the next. `longest`: the most columns that a row has in use."""
        columns = batch.stored[:, None]
        mask = torch.arange(longest + 1, device=self._device) <= columns[..., None]
        self.cache.at(batch.rows[:, None], columns, longest + 1)
        context = self.model.context(columns, mask[:, None], self.cache, reads_cache=True)
        hidden = self.model.hidden(batch.pending[:, None], context)
        if self.records:
            self.cache.store_routes(context.routes)
        tokens, logprobs = batch.sampler.draw(self.model.head(hidden[:, 0]), batch.positions)
        batch.advance(tokens, 1)
        return Drawn(tokens[:, None].tolist(), logprobs[:, None].tolist(), [1] * len(tokens))

    def speculate(self, batch: Batch, longest: int) -> Drawn:
        """Read the pending tokens and their drafts in one pass, draw one token or two, and draft again.

        The module of multi-token prediction drafts (DeepSeek-V3, section 2.2). Every token is drawn from the
        decoder's own distribution with the number that belongs to its position, as `decode` would; a draft only
        decides whether the second draw was made after the right token. So the samples are the same, exactly,
        and a bad draft costs time only. (Speculative sampling, arXiv 2211.17192, would accept more drafts, but
        then a sample would depend on them.)
        """
        columns = batch.stored[:, None] + torch.arange(2, device=self._device)
        places = torch.arange(longest + 2, device=self._device)
        mask = places <= columns[..., None]
        self.cache.at(batch.rows[:, None], columns, longest + 2)
        context = self.model.context(columns, mask[:, None], self.cache, reads_cache=True)
        hidden = self.model.hidden(torch.stack((batch.pending, batch.draft), dim=1), context)
        if self.records:
            self.cache.store_routes(context.routes)
        logits, positions = self.model.head(hidden), batch.positions
        draws = [batch.sampler.draw(logits[:, ahead], positions + ahead) for ahead in range(2)]
        tokens = torch.stack([token for token, _ in draws], dim=1)
        logprobs = torch.stack([logprob for _, logprob in draws], dim=1)
        accepted = (tokens[:, 0] == batch.draft).long()

        # A pair (hidden state, next token) that stands on a rejected draft is overwritten in the next step.
        mask = mask & ((places < batch.gap[:, :1]) | (places >= batch.gap[:, 1:]))[:, None]
        context = self.model.context(columns, mask[:, None], self.cache, reads_cache=True)
        ahead = self.model.next_hidden(0, tokens, hidden, context)
        last = self.model.head(ahead[batch.rows, accepted])
        batch.advance(tokens[batch.rows, accepted], 1 + accepted)
        batch.draft, _ = batch.sampler.draw(last, batch.positions)
        return Drawn(tokens.tolist(), logprobs.tolist(), (1 + accepted).tolist(), batch.draft.tolist())
