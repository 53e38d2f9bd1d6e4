"""Which part of what a model writes is reasoning, and which is answer.

One machine decides it for everyone: stops, budgets, usage counts, rewards and the API. It reads the text in chunks of
any size, and however a text is cut, the parts and the flags are those of the whole. A turn moves forward only:

    before  --<think>-->  reasoning  --</think>-->  answer

A turn whose prompt ends in `<think>` (R1's template) starts in `reasoning`; otherwise the model may open it
itself (R1-0528). A tag that moves the turn forward is layout, and vanishes. Other tags are text where they
stand, so that nothing the model wrote is lost; but they are counted, and the turn is not well-formed:

- Text before the model's own `<think>` belongs to the answer, for nobody can know yet that a `<think>` will
  follow. So does a `</think>` that closes nothing, and all of a turn that never opens its reasoning.
- A second `<think>` inside the reasoning stays there. Nothing nests: the next `</think>` ends the reasoning.
- Once the reasoning is closed all is answer, a late `<think>` and what closes that too. A `</think>` that closes the
  same reasoning once more is no text of the answer: it vanishes, and is counted.
- Reasoning that is never closed leaves the answer empty.

White space at the start of each part is layout too, and is swallowed.
"""

import re
from dataclasses import dataclass
from typing import Literal

_OPEN, _CLOSE = "<think>", "</think>"
_TAG = re.compile(f"({_OPEN}|{_CLOSE})")
# What opens the assistant's turn in the templates of R1 and its distillates, of Qwen2 and of Llama 3.
_TURN = re.compile(r"<｜Assistant｜>|<\|im_start\|>assistant\n|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n")


@dataclass(frozen=True, slots=True)
class Delta:
    """What one chunk added to each part."""

    reasoning: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole turn. `closed`: the reasoning was opened and closed, so `answer` is what followed it."""

    reasoning: str
    answer: str
    closed: bool
    well_formed: bool


class ReasoningStream:
    """Tells reasoning from answer in a text that comes in chunks. `prefilled`: the prompt already opened the reasoning.

    `opened` counts every `<think>`, the prompt's included.
    """

    def __init__(self, prefilled: bool) -> None:
        self.opened = int(prefilled)
        self._closings = 0
        self._late = 0  # `<think>`s that stand open in the answer
        self._part: Literal["before", "reasoning", "answer"] = "reasoning" if prefilled else "before"
        self._written: set[str] = set()  # the parts that have text other than white space
        self._pending = ""  # an end of the text so far that may yet become a tag

    @classmethod
    def after(cls, prompt_text: str) -> "ReasoningStream":
        """The stream as a rendered prompt leaves it.

        It reads the assistant's turn that the prompt has begun: a `<think>` left open, one closed already
        (thinking off), or a piece of reasoning to be continued. A prompt with no such turn is read whole.
        """
        stream = cls(prefilled=False)
        stream.feed(_TURN.split(prompt_text)[-1])
        return stream

    @property
    def in_reasoning(self) -> bool:
        return self._part == "reasoning"

    @property
    def closed(self) -> bool:
        return self._part == "answer"

    @property
    def answered(self) -> bool:
        """Whether the answer has text other than white space."""
        return bool(self._written - {"reasoning"})

    @property
    def well_formed(self) -> bool:
        """Opened once and closed once, with something written between and after, and nothing before."""
        return self.opened == self._closings == 1 and self._written == {"reasoning", "answer"}

    def feed(self, text: str) -> Delta:
        """Read the next chunk. Only an end that could be the start of a tag is held back."""
        *pieces, tail = _TAG.split(self._pending + text)
        cut = tail.rfind("<")
        if cut < 0 or not any(tag.startswith(tail[cut:]) for tag in (_OPEN, _CLOSE)):
            cut = len(tail)
        self._pending = tail[cut:]
        return self._take([*pieces, tail[:cut]])

    def finish(self) -> Delta:
        """The text has ended: what was held back is no tag."""
        pending, self._pending = self._pending, ""
        return self._take([pending])

    def _take(self, pieces: list[str]) -> Delta:
        reasoning, answer = "", ""
        for piece in pieces:
            self.opened += piece == _OPEN
            self._closings += piece == _CLOSE
            if piece == _OPEN and self._part == "before":
                self._part = "reasoning"
                continue
            if piece == _CLOSE and self._part == "reasoning":
                self._part = "answer"
                continue
            if self._part == "answer" and piece in (_OPEN, _CLOSE):
                self._late += 1 if piece == _OPEN else -1
                if self._late < 0:
                    self._late = 0
                    continue
            if self._part not in self._written:
                piece = piece.lstrip()
                if piece:
                    self._written.add(self._part)
            if self._part == "reasoning":
                reasoning += piece
            else:
                answer += piece
        return Delta(reasoning, answer)


def parse(text: str, prefilled: bool = True) -> Parsed:
    """Reasoning and answer of a whole turn, as the stream gives them, without the white space at their ends."""
    stream = ReasoningStream(prefilled)
    deltas = [stream.feed(text), stream.finish()]
    return Parsed(
        reasoning="".join(delta.reasoning for delta in deltas).rstrip(),
        answer="".join(delta.answer for delta in deltas).rstrip(),
        closed=stream.closed,
        well_formed=stream.well_formed,
    )
