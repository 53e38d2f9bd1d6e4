"""A reward model: the decoder with one number for a head, read at the last token of a text."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from longjing.model.config import ModelConfig
from longjing.model.decoder import Decoder
from longjing.model.layers.linear import Linear


class RewardModel(Decoder):
    """The decoder whose head has one row: the score, so far, of the text up to each token.

    In files the head is `score.weight` and the whole is what `transformers` calls ...ForSequenceClassification
    with one label. It has no MTP modules, and nothing that its head could be tied to.
    """

    head_name = "score"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(replace(config, tie_word_embeddings=False, num_nextn_predict_layers=0))
        self.lm_head = Linear(config.hidden_size, 1, bias=False)

    @classmethod
    def from_decoder(cls, decoder: Decoder, pad_token_id: int | None) -> Self:
        """The decoder's own body, taken over and not copied, under a head of zeros: every text scores 0.

        `pad_token_id` is for `transformers`, which reads the score at the last token that isn't this one: no
        text may end in it. None: there is no such token, and `transformers` then takes one text at a time.
        """
        with torch.device("meta"):
            model = cls(replace(decoder.config, pad_token_id=pad_token_id))
        model.embed_tokens, model.layers, model.norm = decoder.embed_tokens, decoder.layers, decoder.norm
        model.inverse_frequencies = decoder.inverse_frequencies
        weight = decoder.lm_head.weight
        model.lm_head.weight = nn.Parameter(torch.zeros(1, weight.shape[1], device=weight.device))
        return model

    def score(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """The score of each text (its tokens, at least one, the end token last): float32 `[texts]`."""
        device = self.lm_head.weight.device
        tokens = pad_sequence([torch.tensor(text) for text in texts], batch_first=True).to(device)
        positions = torch.arange(tokens.shape[1], device=device).expand_as(tokens)
        hidden = self.hidden(tokens, self.context(positions))
        last = torch.tensor([len(text) - 1 for text in texts], device=device)
        scores: Tensor = self.head(hidden[torch.arange(len(texts), device=device), last])
        return scores.squeeze(-1).float()
