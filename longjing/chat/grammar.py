"""A grammar as a `LogitsProcessor`: the text is bound to a JSON schema, or its calls of tools are (by llguidance)."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from longjing.chat.grammar_trial import LIMITS, TOKEN_SECONDS, GrammarTrials, reason_of
from longjing.chat.tool_calls import CLOSE, OPEN
from longjing.errors import UserError
from longjing.text.tokenizer import Tokenizer

_COMPACT = {"x-guidance": {"whitespace_flexible": False}}  # no room for endless white space
# The white space that models were taught to write calls with.
_SPACED = {"x-guidance": {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}}
_USUAL_SECONDS = 0.005  # that every token may take
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_REFUSED = "the JSON schema can't be honoured"
_CALLS = """%llguidance {{}}
start: {start}
call: head BREAK ({tools}) BREAK {close}
{head}
answer: %json {answer}
TEXT: /(.|\\n)*/
BREAK: /\\n?/
"""


class GrammarCompiler:
    """Makes grammars for one tokenizer. `vocabulary`: how many tokens the model's head has, padding included.

    Each is tried first in a process that may die (`grammar_trial.py`), so that none ends, hangs or fills this one, and
    one that no text satisfies is refused.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, end_tokens: Sequence[int]) -> None:
        as_json = tokenizer.to_json()
        self._tokens = LLTokenizer(as_json, n_vocab=vocabulary, eos_token=list(end_tokens))
        # A tag that is one token is no text, and ends what comes before it; of several, it is text that has to be found
        # as early as it comes (`lazy`).
        self._tags_are_tokens = None not in map(tokenizer.token_id, (OPEN, CLOSE))
        closers = [token for token in map(tokenizer.token_id, ("}", "]", '"')) if token is not None]
        self._trials = GrammarTrials(as_json, vocabulary, end_tokens, closers)

    def json(self, schema: Mapping[str, Any]) -> "Grammar":
        """The grammar of a JSON text that keeps to the schema. Raises UserError for one that can't be kept."""
        source = _of_schema(schema)
        return self._grammar(source, [source])

    def calls(
        self, tools: Mapping[str, Mapping[str, Any]], answer: Mapping[str, Any] | None, forced: bool, several: bool
    ) -> "Grammar":  # fmt: skip
        """The grammar of a text with calls of `tools`, which are schemas of their arguments by name. `answer`: what
        binds a text without calls; `forced`: nothing but calls, at least one; `several`: more than one are allowed.
        Raises UserError."""
        calls = "call+" if several else "call"
        free = "call* TEXT" if several else "call? TEXT"
        start = calls if forced else free if answer is None else f"answer | {calls}"
        open_, close = (OPEN, CLOSE) if self._tags_are_tokens else (f'"{OPEN}"', f'"{CLOSE}"')
        before = "TEXT " if start == free else ""
        lazy = "[lazy]" if before and not self._tags_are_tokens else ""
        # By itself, too: a text without a call, or with another one, would hide that nothing satisfies a schema.
        alone = [_of_schema(schema) for schema in (*tools.values(), answer or {})]
        source = _CALLS.format(
            start=start, close=close, head=f"head{lazy}: {before}{open_}",
            tools=" | ".join(f"tool_{number}" for number in range(len(tools))),
            answer=json.dumps({**(answer or {}), **_COMPACT}),
        )  # fmt: skip
        for number, (name, schema) in enumerate(tools.items()):
            beginning = json.dumps(f'{{"name": "{name}", "arguments": ')
            source += f'tool_{number}: {beginning} %json {json.dumps({**schema, **_SPACED})} "}}"\n'
        return self._grammar(source, [*alone, source])

    def _grammar(self, source: str, tried: Sequence[str]) -> "Grammar":
        if problem := self._trials.problem_of(tried):
            raise UserError(f"{_REFUSED}: {problem}")
        # Only now in this process: the very same was survived beside it.
        matcher = LLMatcher(self._tokens, source, log_level=0, limits=LIMITS)
        if matcher.is_error():
            raise UserError(f"{_REFUSED}: {reason_of(matcher)}")
        return Grammar(matcher)


def _of_schema(schema: Mapping[str, Any]) -> str:
    """The schema as a grammar. Raises UserError for what is no JSON, and for numbers that would be taken for others."""
    for name, value in _numbers(schema):
        if value <= 0 if name == "multipleOf" else abs(value) >= 2**63:
            allowed = "above 0" if name == "multipleOf" else "a number of at most 64 bits"
            raise UserError(f"{_REFUSED}: {name} must be {allowed}")
    try:
        return LLMatcher.grammar_from_json_schema(json.dumps({**schema, **_COMPACT}))
    except ValueError as error:
        raise UserError(f"{_REFUSED}: {error}") from error


def _numbers(schema: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers that bound numbers anywhere in a schema, with their keywords."""
    unseen: list[Any] = [schema]
    while unseen:
        node = unseen.pop()
        if isinstance(node, list):
            unseen += node
        for name, value in node.items() if isinstance(node, Mapping) else ():
            if name in _NUMBERS and isinstance(value, int | float):
                yield name, value
            # Under these keywords stand values, in which a key like `minimum` bounds nothing.
            elif name not in ("const", "enum", "default", "examples"):
                unseen.append(value)


class TimeLimit:
    """Watches what the texts of one request take: everybody else's wait meanwhile."""

    def __init__(self) -> None:
        self._debt = 0.0

    def note(self, seconds: float) -> None:
        """Note the seconds that one token took. Raises UserError once they are too many, at once or all the time."""
        # A leaky bucket: one slow token is forgiven by the quick ones after it, a slow text is not.
        self._debt = max(0.0, self._debt + seconds - _USUAL_SECONDS)
        if self._debt > TOKEN_SECONDS:
            raise UserError("to follow it takes too long")


class Grammar:
    """The `LogitsProcessor` of one text."""

    def __init__(self, matcher: LLMatcher, time_limit: TimeLimit | None = None) -> None:
        self._matcher, self._read, self._time_limit = matcher, 0, time_limit or TimeLimit()

    def copy(self) -> "Grammar":
        """The same grammar at its beginning, for another text; it costs less than to read the schema again."""
        return Grammar(self._matcher.deep_copy(), self._time_limit)

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor:
        """The tokens that may come next, as a bias (see `LogitsProcessor`). Raises UserError once the grammar is too
        large, takes too long, or leaves no token."""
        # This thread's own time: a busy machine is not the schema's fault.
        began = time.thread_time()
        self._matcher.consume_tokens(list(tokens[self._read :]))
        self._read = len(tokens)
        mask = bytearray(self._matcher.compute_logit_bias())
        if self._matcher.is_error():  # the mask would say that the text has come to its end
            raise UserError(reason_of(self._matcher))
        self._time_limit.note(time.thread_time() - began)
        allowed = torch.frombuffer(mask, dtype=torch.uint8)[:vocabulary] > 0
        if not allowed.any():
            raise UserError("it leaves no way to go on")
        return torch.where(allowed, 0.0, float("-inf"))
