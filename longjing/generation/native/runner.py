"""Runs the model over the cache: one forward pass, for reading prompts, for decoding, and for drafting."""

from collections import abc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from longjing.generation.native.decoding_copy import DecodingCopy, needs_copy
from longjing.generation.native.graphs import Graphs
from longjing.generation.native.kv_cache import KVCache
from longjing.generation.native.logits_processors import batch_bias, batch_factors
from longjing.generation.native.sampling import StepOutput
from longjing.generation.native.sequence import Batch, Sequence
from longjing.model.decoder import Decoder
from longjing.model.layers.context import Context
from longjing.model.layers.moe import Experts
from longjing.model.threads import is_small

READ_ON_TOKENS = 512  # of each row, in one pass, where the beginning is in the cache


class ModelRunner:
    """A decoder, or a copy of it in another `dtype`, and a cache of `cache_bytes`.

    The decoder may be the module that a trainer updates: this generator shares its memory, and sees an update at once.
    `drafts`: keep the cache of the first prediction module too. `record_routes`, `batch_invariant`: as in `Engine`.
    """

    columns = 1  # that a step of decoding fills of each row

    def __init__(
        self,
        model: Decoder,
        dtype: torch.dtype | None,
        cache_bytes: int,
        drafts: bool,
        record_routes: bool,
        batch_invariant: bool | None,
    ) -> None:
        dtype = dtype or model.embed_tokens.weight.dtype
        self._batch_invariant = is_small(model) if batch_invariant is None else batch_invariant
        copies = needs_copy(model, dtype, self._batch_invariant)
        self._copy = DecodingCopy(model, dtype, self._batch_invariant) if copies else None
        self.model = self._copy.model if self._copy else model
        weight = self.model.embed_tokens.weight
        self.device = weight.device
        self._drafts = drafts
        self.cache = KVCache.for_model(model.config, cache_bytes, weight, drafts, record_routes)
        # Without `has_grouped_product`, experts are run by the counts of their tokens, which a graph can't wait for.
        experts = (module for module in self.model.layers.modules() if isinstance(module, Experts))
        graphs = self.device.type == "cuda" and all(module.has_grouped_product(weight.dtype) for module in experts)
        self._graphs = Graphs(self._logits, self.cache) if graphs else None

    def update_weights(self) -> None:
        """Take over the present weights of the module that the runner was made with, if it keeps a copy."""
        if self._copy:
            self._copy.update()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Keep a trainer's module from counting the tokens that are read here in its experts' load."""
        training = self.model.training
        if training:
            self.model.eval()
        try:
            yield
        finally:
            if training:
                self.model.train()

    def forward(
        self, tokens: Tensor, columns: Tensor, longest: int | None, first_row: int = 0, replay: Tensor | None = None
    ) -> tuple[Tensor, Context]:
        """Read `tokens` `[rows, length]`, store them in `columns` `[rows, length]` of the rows from `first_row` on, and
        return their hidden states `[rows, length, hidden]`, with the context that they were made in.

        A token sees the columns of its row up to its own. `longest`: the columns that any of them sees. None says that
        these are whole prompts, from column 0 on: the cache isn't read then, and the pass is the trainer's, whose
        experts can be prescribed by `replay` `[rows, length, mixture layers, experts per token]`.
        """
        if longest is None:
            self.cache.target_prompts(first_row)
            context = self.model.context(
                columns, cache=self.cache, replay=replay, batch_invariant=self._batch_invariant
            )
        else:
            self.cache.target_columns(columns, self.cache.readable(longest), first_row)
            context = self.context(columns, longest)
        hidden = self.model.hidden(tokens, context)
        self.cache.store_routes(context.routes)
        return hidden, context

    def context(self, columns: Tensor, longest: int, gaps: Tensor | None = None) -> Context:
        """The context of tokens that see the columns up to their own, but for those in the `gaps` `[rows, 2]`."""
        every = torch.arange(self.cache.readable(longest), device=self.device)
        # Padding, and what an earlier request has left, lie behind a row's own columns: the causal mask hides them,
        # too.
        mask = every <= columns[..., None]
        if gaps is not None:
            mask = mask & ((every < gaps[:, :1]) | (every >= gaps[:, 1:]))[:, None]
        return self.model.context(
            columns, mask[:, None], self.cache, reads_cache=True, batch_invariant=self._batch_invariant
        )

    def read(self, sequences: abc.Sequence[Sequence], first_row: int) -> int:
        """Store the tokens of sequences, but for the pending ones, in the rows from `first_row` on; returns how many
        were read. The first `cached` columns of each are there.

        Rows are padded on the right. Padding is behind what counts, so nothing that counts sees it, and decoding
        overwrites its entries before it looks at them. Sequences that saved their routes replay them: all or none.
        """
        unread = max(sequence.stored - sequence.cached for sequence in sequences)
        if not unread:
            return 0
        # With the pending token, too: the prediction module reads each token together with the one after it.
        texts = [torch.tensor([*sequence.prompt, *sequence.tokens]) for sequence in sequences]
        text = pad_sequence(texts, batch_first=True).to(self.device)
        if any(sequence.cached for sequence in sequences):
            self._read_on(sequences, text, unread, first_row)
        else:
            routes = [sequence.routes for sequence in sequences if sequence.routes is not None]
            # One who was pre-empted takes the experts again that it took before: a recomputed score may choose others
            # by a rounding.
            replay = pad_sequence(routes, batch_first=True).long() if routes else None
            columns = torch.arange(unread, device=self.device).expand(len(sequences), -1)
            hidden, context = self.forward(text[:, :-1], columns, None, first_row, replay)
            self._read_ahead(text[:, 1:], hidden, context)
        return sum(sequence.stored - sequence.cached for sequence in sequences)

    def _read_on(self, sequences: abc.Sequence[Sequence], text: Tensor, unread: int, first_row: int) -> None:
        """As `read`, behind what is cached, in parts of a few columns. Who has less to read than others reads its last
        token again and again, which changes nothing."""
        starts = torch.tensor([[sequence.cached] for sequence in sequences], device=self.device)
        ends = torch.tensor([[sequence.stored] for sequence in sequences], device=self.device)
        for part in torch.arange(unread, device=self.device).split(READ_ON_TOKENS):
            columns = torch.minimum(starts + part, ends - 1)
            hidden, context = self.forward(text.gather(1, columns), columns, int(columns.max()) + 1, first_row)
            self._read_ahead(text.gather(1, columns + 1), hidden, context)

    def _read_ahead(self, following: Tensor, hidden: Tensor, context: Context) -> None:
        """Let the prediction module read the same columns, if it is to draft later: each with the token after it."""
        if self._drafts:
            self.model.next_hidden(0, following, hidden, replace(context, replay=None, routes=[]))

    def decode(self, batch: Batch, longest: int) -> StepOutput:
        """Read the pending tokens and draw the next. `longest`: the most columns that a row has in use."""
        if self._graphs:
            logits = self._graphs.logits(batch, longest)
        else:
            logits = self._logits(batch.pending, batch.stored, longest + 1)
        bias = factors = None
        if batch.processors:
            bias = batch_bias(batch.processors, logits.shape[1], self.device)
            factors = batch_factors(batch.processors, logits.shape[1], self.device)
        draw = batch.sampler.draw(logits, batch.positions, bias, factors)
        batch.advance(draw.tokens, 1)
        return StepOutput.of([draw], [1] * len(draw.tokens))

    def _logits(self, pending: Tensor, stored: Tensor, longest: int) -> Tensor:
        """Logits `[rows, vocabulary]` after reading `pending`, whose entries go to columns `stored`."""
        hidden, context = self.forward(pending[:, None], stored[:, None], longest)
        return self.model.head(hidden[:, 0], context)
