"""A grammar as a `Guide`: the text is bound to a JSON schema, or its calls of tools are (by llguidance)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from longjing.errors import UserError
from longjing.serving.tools import CLOSE, OPEN
from longjing.text.tokenizer import Tokenizer

_COMPACT = {"x-guidance": {"whitespace_flexible": False}}  # no room for endless white space
# The white space that models were taught to write calls with.
_SPACED = {"x-guidance": {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}}
_CALLS = """%llguidance {{}}
start: {start}
call: head BREAK ({tools}) BREAK {close}
{head}
answer: %json {answer}
TEXT: /(.|\\n)*/
BREAK: /\\n?/
"""


class Grammars:
    """Makes grammars for one tokenizer. `vocabulary`: how many tokens the model's head has, padding included."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end_tokens: Sequence[int]) -> None:
        self._tokens = LLTokenizer(tokenizer.to_json(), n_vocab=vocabulary, eos_token=list(end_tokens))
        self._tags_are_tokens = None not in map(tokenizer.token_id, (OPEN, CLOSE))

    def json(self, schema: Mapping[str, Any]) -> "Grammar":
        """Raises UserError for a schema that can't be kept."""
        try:
            return self._grammar(LLMatcher.grammar_from_json_schema(json.dumps({**schema, **_COMPACT})))
        except ValueError as error:
            raise UserError(f"the JSON schema can't be honoured: {error}") from error

    def calls(
        self, tools: Mapping[str, Mapping[str, Any]], answer: Mapping[str, Any] | None, forced: bool, several: bool
    ) -> "Grammar":  # fmt: skip
        """Text with calls of `tools`, which are schemas of their arguments by name. `answer`: what binds a text without
        calls; `forced`: nothing but calls, at least one; `several`: more than one are allowed. Raises UserError."""
        some = "call+" if several else "call"
        free = "call* TEXT" if several else "call? TEXT"
        start = some if forced else free if answer is None else f"answer | {some}"
        open_, close = (OPEN, CLOSE) if self._tags_are_tokens else (f'"{OPEN}"', f'"{CLOSE}"')
        before = "TEXT " if start == free else ""
        lazy = "[lazy]" if before and not self._tags_are_tokens else ""
        source = _CALLS.format(
            start=start, close=close, head=f"head{lazy}: {before}{open_}",
            tools=" | ".join(f"tool_{number}" for number in range(len(tools))),
            answer=json.dumps({**(answer or {}), **_COMPACT}),
        )  # fmt: skip
        for number, (name, schema) in enumerate(tools.items()):
            beginning = json.dumps(f'{{"name": "{name}", "arguments": ')
            source += f'tool_{number}: {beginning} %json {json.dumps({**schema, **_SPACED})} "}}"\n'
        return self._grammar(source)

    def _grammar(self, source: str) -> "Grammar":
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
