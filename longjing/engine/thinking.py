"""A budget for thinking: when it is spent the reasoning is closed, and the answer follows."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from longjing.text.reasoning import ReasoningStream
from longjing.text.tokenizer import Detokenizer, Tokenizer

_CLOSING = "\n</think>\n\n"


class ThinkingBudget:
    """The `Guide` of one completion: at most `budget` tokens of reasoning, and none of it ends without an answer.

    As long as the model reasons it can't end the text. `spent` counts the tokens of the reasoning so far, those that
    close it included; `exhausted` says that the budget closed it, and not the model.
    """

    def __init__(
        self, tokenizer: Tokenizer, prompt: Sequence[int], budget: int, end_tokens: Collection[int]
    ) -> None:
        self._stream = ReasoningStream.after(tokenizer.decode(prompt))
        self._detokenizer = Detokenizer(tokenizer)
        self._ends, self._budget = list(end_tokens), budget
        self._closing = tokenizer.encode(_CLOSING)
        self._read = 0
        self.spent, self.exhausted = 0, False

    def bias(self, tokens: Sequence[int], vocabulary: int) -> Tensor | None:
        """See `Guide`."""
        for token in tokens[self._read :]:
            self.spent += self._stream.in_reasoning
            self._stream.feed(self._detokenizer.add(token))
        self._read = len(tokens)
        if self._stream.in_reasoning and self.spent >= self._budget:
            self.exhausted = True
        if self.exhausted and self._closing:
            only = torch.full((vocabulary,), float("-inf"))
            only[self._closing.pop(0)] = 0.0
            return only
        if self._stream.in_reasoning:
            ending = torch.zeros(vocabulary)
            ending[self._ends] = float("-inf")
            return ending
        return None
