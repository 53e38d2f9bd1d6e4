"""One reply as the model writes it: reasoning and answer apart, and the rules that see to it that an answer comes."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from functools import cache

import numpy as np
import torch
from torch import Tensor

from longjing.chat.thinking_budget import ThinkingBudget
from longjing.errors import UserError
from longjing.generation.request import FinishReason, LogitsProcessor
from longjing.text import Detokenizer, Tokenizer
from longjing.text.reasoning import Delta, ReasoningStream
from longjing.text.stop_strings import StopStrings

_SEPARATOR = "\n\n"  # between reasoning and answer
_CLOSING = f"\n</think>{_SEPARATOR}"
_OPENING = "<think>\n"
_CLOSERS = ("}", "]", '"')  # what leads out of JSON, the nearest way first
LONGEST = 256  # tokens of the longest circle that is noticed
_TIMES = 4  # the same tokens in a row, before it is a circle
_LEAST = 64  # tokens in all: a short one needs more turns, for `0000` and `----` are no circles


class ReasoningController:
    """Reads one reply's tokens, and is the `LogitsProcessor` that keeps them in order.

    The reasoning is closed when its `budget` of tokens is spent (by default all but what the answer needs of
    `max_tokens`, and never more than that), or when it repeats itself; the text can't end before an answer is
    written, and an answer that repeats itself is ended, under a grammar as soon as that allows it. Without
    `repetition_guard` both may repeat themselves. `stops` and the
    `grammar`, which is a logits processor too, know the answer only; or, with `everywhere`, all that is written, the
    tags too. Such a grammar alone says then how the text goes on.

    `reasoning` and `answer` are the text so far, as far as it is certain. `reasoned` tells of each token whether it
    belongs to the reasoning, `reasoning_tokens` counts those; the tag that closes it is one of them. `stopped`: a stop
    string came, so that whoever drives the engine should cancel the request. `exhausted`, `reasoning_repeats` and
    `answer_repeats` say that the reasoning was closed for its budget, or for repetition, and that the answer was ended
    for repetition; `failure` why the grammar gave up, which ends it too.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], max_tokens: int, end_tokens: Collection[int], *,
        budget: int | None = None, stops: Sequence[str] = (), grammar: LogitsProcessor | None = None,
        everywhere: bool = False, repetition_guard: bool = True,
    ) -> None:  # fmt: skip
        self._stream = ReasoningStream.after(tokenizer.decode(prompt))
        self._cut_stream = deepcopy(self._stream)  # reads what stop strings leave, if they act everywhere
        self._detokenizer, self._stops = Detokenizer(tokenizer, continues=True), StopStrings(stops)
        self._guard = repetition_guard
        self._repetition = RepetitionDetector(repetition_guard)
        self._ends, self._max_tokens = frozenset(end_tokens), max_tokens
        self._budget = ThinkingBudget.of(budget, max_tokens, tokenizer.encode(_CLOSING))
        self._grammar, self._everywhere = grammar, everywhere
        self._grammar_start: int | None = None  # tokens that came before those which the grammar knows
        self._forced: list[int] = []  # tokens that come next, whatever the model would write
        self._separator: list[int] = []  # and those that do once the reasoning is closed
        thinks = self._stream.in_reasoning or self._stream.closed
        if grammar is not None and not everywhere and not thinks and "think>" in tokenizer.template:
            # A model whose prompt doesn't open the reasoning might do so; under a grammar it couldn't.
            self._forced = tokenizer.encode(_OPENING)
        if grammar is not None and (self._forced or self._stream.in_reasoning):
            # Nor would the grammar let it write what it always writes between reasoning and answer.
            self._separator = tokenizer.encode(_SEPARATOR)
        closers = map(tokenizer.token_id, _CLOSERS) if grammar is not None else ()
        self._ways_to_end = [*sorted(self._ends), *(token for token in closers if token is not None)]
        self.reasoning = self.answer = self.failure = ""
        self.reasoned: list[bool] = []
        self._taken = (0, 0)
        self.exhausted = self.reasoning_repeats = self.answer_repeats = False

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """The bias for the next token (see `LogitsProcessor`)."""
        self.read(tokens)
        if self._everywhere and self._grammar is not None:
            return self._grammar_bias(self._grammar, tokens, vocabulary)
        if self._stream.in_reasoning and not self._forced:
            self._close_reasoning_if_due()
        if self._forced:
            return _only(self._forced.pop(0), vocabulary)
        if self._stream.in_reasoning:
            return _without(self._ends, vocabulary)
        if self._separator:
            return _only(self._separator.pop(0), vocabulary)
        if self._grammar is not None:
            if self._grammar_start is None:
                self._grammar_start = len(tokens)
            return self._grammar_bias(self._grammar, tokens[self._grammar_start :], vocabulary)
        if self._repetition.repeats:
            self.answer_repeats = True
            return self._end(vocabulary)
        return None if self._stream.answered else _without(self._ends, vocabulary)

    def _close_reasoning_if_due(self) -> None:
        if self.exhausted or self.reasoning_repeats:
            return
        self.reasoning_repeats = self._repetition.repeats
        self.exhausted = not self.reasoning_repeats and self._budget.exhausted
        if self.reasoning_repeats or self.exhausted:
            self._forced, self._separator = list(self._budget.closing), []
            self._repetition = RepetitionDetector(self._guard)

    def _grammar_bias(self, grammar: LogitsProcessor, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """What the grammar says; once the text repeats itself, the nearest way to its end."""
        try:
            bias = grammar.bias(tokens, vocabulary)
        except UserError as problem:
            self.failure = str(problem)
            return self._end(vocabulary)
        self.answer_repeats = self.answer_repeats or self._repetition.repeats
        if self.answer_repeats and bias is not None:
            way = next((token for token in self._ways_to_end if bias[token].isfinite()), None)
            return bias if way is None else _only(way, vocabulary)
        return bias

    def _end(self, vocabulary: int) -> Tensor | None:
        return _only(min(self._ends), vocabulary) if self._ends else None

    def read(self, tokens: Sequence[int]) -> None:
        """Catch up with the completion, whose tokens so far these are."""
        self.extend(tokens[len(self.reasoned) :])

    def extend(self, tokens: Sequence[int]) -> None:
        """Read the completion's next tokens."""
        for token in tokens:
            was_reasoning = self._stream.in_reasoning
            self.reasoned.append(was_reasoning)
            self._budget.spent += was_reasoning
            if token not in self._ends and not self.stopped:
                self._repetition.add(token)
                self._add(self._detokenizer.add(token))
            if was_reasoning and not self._stream.in_reasoning and not self._forced:
                self._repetition = RepetitionDetector(self._guard)  # the answer's own

    def finish(self) -> None:
        """No more tokens come."""
        self._add(self._detokenizer.flush(), last=True)

    def take(self) -> Delta:
        """What both parts have grown by since this was asked last. White space at their ends is layout, and waits."""
        reasoning_start, answer_start = self._taken
        reasoning_end, answer_end = len(self.reasoning.rstrip()), len(self.answer.rstrip())
        self._taken = reasoning_end, answer_end
        return Delta(self.reasoning[reasoning_start:reasoning_end], self.answer[answer_start:answer_end])

    def _add(self, text: str, last: bool = False) -> None:
        def parts(stream: ReasoningStream, text: str) -> Delta:
            grown, rest = stream.feed(text), stream.finish() if last else Delta()
            return Delta(grown.reasoning + rest.reasoning, grown.answer + rest.answer)

        grown = parts(self._stream, text)
        if self._everywhere:
            grown = parts(self._cut_stream, self._certain(text, last))
        self.reasoning += grown.reasoning
        self.answer += grown.answer if self._everywhere else self._certain(grown.answer, last)

    def _certain(self, text: str, last: bool) -> str:
        """What has become certain to stay, with `text` come, of that in which stop strings are looked for."""
        before = len(self._stops.text)
        self._stops.add(text)
        if last:
            self._stops.finish()
        return self._stops.text[before:]

    @property
    def stopped(self) -> bool:
        """Whether a stop string has come."""
        return self._stops.stopped

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens of the completion belong to the reasoning."""
        return self._budget.spent

    @property
    def in_reasoning(self) -> bool:
        """Whether the reasoning is open."""
        return self._stream.in_reasoning

    def finish_reason(self, reason: FinishReason) -> FinishReason:
        """Why the reply ended, if the engine gives this reason: an end that was forced is no end of the model's own."""
        return "stop" if self.stopped else "length" if self.answer_repeats else reason

    def notices(self, finish_reason: str) -> list[str]:
        """What a reader should know of how the reply came to its end, in sentences; usually nothing. `finish_reason`:
        the engine's."""
        events = {
            f"The reasoning was closed after its budget of {self._budget.tokens} tokens.": self.exhausted,
            "The reasoning went in circles and was closed.": self.reasoning_repeats,
            "The answer went in circles and was ended (repetition_guard).": self.answer_repeats,
            f"The answer was ended, for its grammar failed: {self.failure}": self.failure,
            f"It was cut off after {self._max_tokens} tokens (max_tokens).": finish_reason == "length",
        }
        sentences = [sentence for sentence, happened in events.items() if happened]
        if not self.answer.strip():
            sentences.append(
                "The answer is empty: a stop string came first." if self.stopped
                else "The answer is empty: the reasoning left no room for it." if self._stream.in_reasoning
                else "The answer is empty: nothing but its ending was written."
            )  # fmt: skip
        return sentences


class RepetitionDetector:
    """`repeats` once the last tokens are one block at least four times in a row, and 64 tokens long in all; never if it
    is off."""

    def __init__(self, on: bool = True) -> None:
        self._on = on
        # The last tokens in a ring, the newest at `_newest` and older ones behind it; twice, so that they lie in order.
        self._last, self._newest = np.full(2 * LONGEST, -1), 0
        self._runs = np.zeros(LONGEST, int)  # for how many tokens now each has been the one `period` before
        periods = np.arange(1, LONGEST + 1)
        self._needed = np.maximum((_TIMES - 1) * periods, _LEAST - periods)
        self.repeats = False

    def add(self, token: int) -> None:
        """The next token."""
        if not self._on:
            return
        self._runs += 1
        self._runs *= self._last[self._newest : self._newest + LONGEST] == token
        self._newest = (self._newest - 1) % LONGEST
        self._last[self._newest] = self._last[self._newest + LONGEST] = token
        self.repeats = bool((self._runs >= self._needed).any())


@cache
def _without(tokens: frozenset[int], vocabulary: int) -> Tensor:
    bias = torch.zeros(vocabulary)
    bias[list(tokens)] = float("-inf")
    return bias


@cache
def _only(token: int, vocabulary: int) -> Tensor:
    bias = torch.full((vocabulary,), float("-inf"))
    bias[token] = 0.0
    return bias
