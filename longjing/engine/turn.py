"""One turn of a conversation as the model writes it: its parts, and the rules that see to it that an answer comes."""

from collections.abc import Collection, Sequence
from functools import cache

import torch
from torch import Tensor

from longjing.engine.circles import Circles
from longjing.engine.request import Guide
from longjing.engine.stops import Stops
from longjing.text.reasoning import Delta, ReasoningStream
from longjing.text.tokenizer import Detokenizer, Tokenizer

_LAYOUT = "\n\n"  # between reasoning and answer
_CLOSING = f"\n</think>{_LAYOUT}"
_OPENING = "<think>\n"
_RESERVE = 64  # tokens of a turn that are kept for the answer


class Turn:
    """Reads one turn's tokens, and is the `Guide` that keeps them in order.

    The reasoning is closed when its `budget` of tokens is spent (by default all but what the answer needs of
    `max_tokens`, and never more than that), or when it goes in circles; the text can't end before an answer is
    written, and an answer that goes in circles is ended. `stops` and the guide `answer`, a grammar say, know the
    answer only; or, with `everywhere`, all that is written, and then nothing of the above is seen to.

    `reasoning` and `answer` are the text so far, as far as it is certain. `reasoned` tells of each token whether it
    belongs to the reasoning, `reasoning_tokens` counts those; the tag that closes it is one of them. `stopped`: a stop
    string came, so that whoever drives the engine should cancel the request. `exhausted`, `circled` and `ended` say
    that the reasoning was closed for its budget, or for circles, and that the answer was ended for circles.
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
        answer: Guide | None = None,
        everywhere: bool = False,
    ) -> None:
        self._machine = ReasoningStream.after(tokenizer.decode(prompt))
        self._detokenizer, self._circles = Detokenizer(tokenizer), Circles()
        self._stops, self._stopped_in_reasoning = Stops(stops), Stops(stops if everywhere else ())
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
        # A grammar wouldn't let the model write what it always writes before an answer.
        self._layout = tokenizer.encode(_LAYOUT) if answer is not None and not self._machine.closed else []
        self.reasoned: list[bool] = []
        self.reasoning_tokens = 0
        self._taken = (0, 0)
        self.exhausted = self.circled = self.ended = self.stopped = False

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """See `Guide`."""
        self.read(tokens)
        if self._everywhere:
            return self._answer.bias(tokens, vocabulary) if self._answer else None
        if self._machine.in_reasoning and not self._forced and not (self.exhausted or self.circled):
            self.circled = self._circles.found
            self.exhausted = not self.circled and self.reasoning_tokens >= self._budget
            if self.circled or self.exhausted:
                self._forced, self._layout, self._circles = list(self._closing), [], Circles()
        if self._forced:
            return _only(self._forced.pop(0), vocabulary)
        if self._machine.in_reasoning:
            return _without(self._ends, vocabulary)
        if self._layout:
            return _only(self._layout.pop(0), vocabulary)
        if self._answer is not None:
            if self._begun is None:
                self._begun = len(tokens)
            return self._answer.bias(tokens[self._begun :], vocabulary)
        if self._circles.found:
            self.ended = True
            return _only(min(self._ends), vocabulary) if self._ends else None
        return None if self._machine.answered else _without(self._ends, vocabulary)

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
                self._add(self._machine.feed(self._detokenizer.add(token)))
            if was_reasoning and not self._machine.in_reasoning and not self._forced:
                self._circles = Circles()  # the answer's own

    def finish(self) -> None:
        """No more tokens come."""
        if not self.stopped:
            self._add(self._machine.feed(self._detokenizer.flush()))
            self._add(self._machine.finish())
            self._stops.finish()
            self._stopped_in_reasoning.finish()

    def take(self) -> Delta:
        """What both parts have grown by since this was asked last."""
        thought, said = self._taken
        self._taken = len(self.reasoning), len(self.answer)
        return Delta(self.reasoning[thought:], self.answer[said:])

    def _add(self, delta: Delta) -> None:
        self.stopped = self._stopped_in_reasoning.add(delta.reasoning) or self._stops.add(delta.answer)

    @property
    def reasoning(self) -> str:
        return self._stopped_in_reasoning.text

    @property
    def answer(self) -> str:
        return self._stops.text

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
        if finish_reason == "length":
            said.append(f"It was cut off after {self._max_tokens} tokens (max_tokens).")
        if not self._machine.answered:
            said.append(
                "The answer is empty: a stop string came first." if self.stopped and finish_reason != "length"
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
