"""One turn of a conversation as the model writes it: its parts, and the rules that see to it that an answer comes."""

from collections.abc import Collection, Sequence
from copy import deepcopy
from functools import cache

import torch
from torch import Tensor

from longjing.chat.repetition import RepetitionDetector
from longjing.errors import UserError
from longjing.generation.request import LogitsProcessor
from longjing.text.reasoning import Delta, ReasoningStream
from longjing.text.stop_strings import Stops
from longjing.text.tokenizer import Detokenizer, Tokenizer

_LAYOUT = "\n\n"  # between reasoning and answer
_CLOSING = f"\n</think>{_LAYOUT}"
_OPENING = "<think>\n"
_RESERVE = 64  # tokens of a turn that are kept for the answer
_CLOSERS = ("}", "]", '"')  # what leads out of JSON, the nearest way first


class ReasoningController:
    """Reads one turn's tokens, and is the `LogitsProcessor` that keeps them in order.

    The reasoning is closed when its `budget` of tokens is spent (by default all but what the answer needs of
    `max_tokens`, and never more than that), or when it goes in circles; the text can't end before an answer is
    written, and an answer that goes in circles is ended, under a grammar as soon as that allows it. `stops` and the
    guide `answer`, a grammar say, know the answer only; or, with `everywhere`, all that is written, the tags too. Such
    a grammar alone says then how the text goes on.

    `reasoning` and `answer` are the text so far, as far as it is certain. `reasoned` tells of each token whether it
    belongs to the reasoning, `reasoning_tokens` counts those; the tag that closes it is one of them. `stopped`: a stop
    string came, so that whoever drives the engine should cancel the request. `exhausted`, `circled` and `ended` say
    that the reasoning was closed for its budget, or for circles, and that the answer was ended for circles; `failure`
    why the grammar gave up, which ends it too.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        max_tokens: int,
        end_tokens: Collection[int],
        *,
        budget: int | None = None,
        stops: Sequence[str] = (),
        answer: LogitsProcessor | None = None,
        everywhere: bool = False,
    ) -> None:
        self._machine = ReasoningStream.after(tokenizer.decode(prompt))
        self._cut = deepcopy(self._machine)  # reads what stop strings leave, if they act everywhere
        self._detokenizer, self._circles, self._stops = (
            Detokenizer(tokenizer),
            RepetitionDetector(),
            Stops(stops),
        )
        self._ends, self._max_tokens = frozenset(end_tokens), max_tokens
        self._closing = tokenizer.encode(_CLOSING)
        room = room_to_think(max_tokens, len(self._closing))
        self._budget = room if budget is None else min(budget, room)
        self._answer, self._everywhere = answer, everywhere
        self._begun: int | None = None  # tokens that came before those which `answer` knows
        thinks = self._machine.in_reasoning or self._machine.closed
        # A model whose prompt doesn't open the reasoning might do so; under a grammar it couldn't.
        opens = not thinks and answer is not None and not everywhere and "think>" in tokenizer.template
        self._forced = tokenizer.encode(_OPENING) if opens else []
        # A grammar wouldn't let the model write what it always writes between reasoning and answer.
        between = answer is not None and (opens or self._machine.in_reasoning)
        self._layout = tokenizer.encode(_LAYOUT) if between else []
        closers = map(tokenizer.token_id, _CLOSERS) if answer is not None else ()
        self._ways_out = [*sorted(self._ends), *(token for token in closers if token is not None)]
        self.reasoning = self.answer = self.failure = ""
        self.reasoned: list[bool] = []
        self.reasoning_tokens = 0
        self._taken = (0, 0)
        self.exhausted = self.circled = self.ended = False

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """See `LogitsProcessor`."""
        self.read(tokens)
        if self._everywhere and self._answer is not None:
            return self._bound(self._answer, tokens, vocabulary)
        if self._machine.in_reasoning and not self._forced and not (self.exhausted or self.circled):
            self.circled = self._circles.found
            self.exhausted = not self.circled and self.reasoning_tokens >= self._budget
            if self.circled or self.exhausted:
                self._forced, self._layout, self._circles = list(self._closing), [], RepetitionDetector()
        if self._forced:
            return _only(self._forced.pop(0), vocabulary)
        if self._machine.in_reasoning:
            return _without(self._ends, vocabulary)
        if self._layout:
            return _only(self._layout.pop(0), vocabulary)
        if self._answer is not None:
            if self._begun is None:
                self._begun = len(tokens)
            return self._bound(self._answer, tokens[self._begun :], vocabulary)
        if self._circles.found:
            self.ended = True
            return self._end(vocabulary)
        return None if self._machine.answered else _without(self._ends, vocabulary)

    def _bound(self, answer: LogitsProcessor, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """What the grammar says; once the text goes in circles, the nearest way out of it."""
        try:
            bias = answer.bias(tokens, vocabulary)
        except UserError as problem:
            self.failure = str(problem)
            return self._end(vocabulary)
        self.ended = self.ended or self._circles.found
        if self.ended and bias is not None:
            way = next((token for token in self._ways_out if bias[token].isfinite()), None)
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
            was_reasoning = self._machine.in_reasoning
            self.reasoned.append(was_reasoning)
            self.reasoning_tokens += was_reasoning
            if token not in self._ends and not self.stopped:
                self._circles.add(token)
                self._add(self._detokenizer.add(token))
            if was_reasoning and not self._machine.in_reasoning and not self._forced:
                self._circles = RepetitionDetector()  # the answer's own

    def finish(self) -> None:
        """No more tokens come."""
        self._add(self._detokenizer.flush(), last=True)

    def take(self) -> Delta:
        """What both parts have grown by since this was asked last. White space at their ends is layout, and waits."""
        thought, said = self._taken
        self._taken = len(self.reasoning.rstrip()), len(self.answer.rstrip())
        return Delta(self.reasoning[thought : self._taken[0]], self.answer[said : self._taken[1]])

    def _add(self, text: str, last: bool = False) -> None:
        def parts(machine: ReasoningStream, text: str) -> Delta:
            grown, rest = machine.feed(text), machine.finish() if last else Delta()
            return Delta(grown.reasoning + rest.reasoning, grown.answer + rest.answer)

        grown = parts(self._machine, text)
        if self._everywhere:
            grown = parts(self._cut, self._certain(text, last))
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
        return self._stops.stopped

    @property
    def in_reasoning(self) -> bool:
        return self._machine.in_reasoning

    def notices(self, finish_reason: str) -> list[str]:
        """What a reader should know of how the turn came to its end, in sentences; usually nothing."""
        said = []
        if self.exhausted:
            said.append(f"The reasoning was closed after its budget of {self._budget} tokens.")
        if self.circled:
            said.append("The reasoning went in circles and was closed.")
        if self.ended:
            said.append("The answer went in circles and was ended.")
        if self.failure:
            said.append(f"The answer was ended, for its grammar failed: {self.failure}")
        if finish_reason == "length":
            said.append(f"It was cut off after {self._max_tokens} tokens (max_tokens).")
        if not self.answer.strip():
            said.append(
                "The answer is empty: a stop string came first." if self.stopped
                else "The answer is empty: the reasoning left no room for it." if self._machine.in_reasoning
                else "The answer is empty: nothing but its ending was written."
            )  # fmt: skip
        return said


def room_to_think(max_tokens: int, closing: int = 4) -> int:
    """Tokens of a turn that reasoning may take: the rest is for closing it, which takes `closing`, and the answer."""
    return max(0, max_tokens - closing - min(_RESERVE, max_tokens // 2))


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
