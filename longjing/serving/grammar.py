"""A grammar as a `Guide`: the text is bound to a JSON schema (by llguidance)."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from longjing.errors import UserError
from longjing.text.tokenizer import Tokenizer

_COMPACT = {"x-guidance": {"whitespace_flexible": False}}  # no room for endless white space


class Grammars:
    """Makes grammars for one tokenizer. `vocabulary`: how many tokens the model's head has, padding included."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end_tokens: Sequence[int]) -> None:
        self._tokens = LLTokenizer(tokenizer.to_json(), n_vocab=vocabulary, eos_token=list(end_tokens))

    def json(self, schema: dict[str, Any]) -> "Grammar":
        """Raises UserError for a schema that can't be kept."""
        try:
            source = LLMatcher.grammar_from_json_schema(json.dumps(schema | _COMPACT))
        except ValueError as error:
            raise UserError(f"the JSON schema can't be honoured: {error}") from error
        matcher = LLMatcher(self._tokens, source, log_level=0)
        if matcher.is_error():
            raise UserError(f"the JSON schema can't be honoured: {matcher.get_error()}")
        return Grammar(matcher)


class Grammar:
    """The `Guide` of one text."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher, self._read = matcher, 0

    def copy(self) -> "Grammar":
        """For another text; it costs less than to read the schema again."""
        return Grammar(self._matcher.deep_copy())

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor:
        """See `Guide`. Raises UserError when the grammar can't be followed any further, too large for instance."""
        self._matcher.consume_tokens(list(tokens[self._read :]))
        self._read = len(tokens)
        mask = bytearray(self._matcher.compute_logit_bias())
        if self._matcher.is_error():  # the mask would say that the text has come to its end
            raise UserError(self._matcher.get_error().partition("\n")[0])
        allowed = torch.frombuffer(mask, dtype=torch.uint8)
        return torch.where(allowed[:vocabulary] > 0, 0.0, float("-inf"))
