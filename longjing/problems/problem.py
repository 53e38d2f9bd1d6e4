"""What passes between tasks, models and verifiers: a problem, a completion of it, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from longjing.text import reasoning
from longjing.text.template import Message

Language = Literal["en", "zh"]
Outcome = Literal["correct", "wrong", "unjudged"]


@dataclass(frozen=True)
class Problem:
    """`prompt` is the user's message, `answer` a correct answer, `data` (JSON-able) what the verifier needs.

    `id` is the hash of the canonical key: problems with the same id differ in wording at most.
    """

    task: str
    id: str
    prompt: str
    answer: str
    data: dict[str, Any]
    language: str  # its ISO 639-1 code


@dataclass(frozen=True)
class ModelTurn:
    """A turn of a model's as text. `prefilled`: its prompt had opened the reasoning; `truncated`: it was cut off;
    `reply`: what was said to it, if anything was."""

    text: str
    prefilled: bool
    truncated: bool
    reply: Message | None = None


@dataclass(frozen=True)
class Completion:
    """What a model wrote, in its parts. `truncated`: it was cut off before it ended by itself. `prefilled`: the prompt
    had opened the reasoning.

    In a conversation (`MultiTurnTask`) it is the last turn, and `earlier` are those before it; `well_formed` speaks of
    all of them.
    """

    reasoning: str
    answer: str
    closed: bool
    well_formed: bool
    truncated: bool
    prefilled: bool = True
    earlier: tuple["Exchange", ...] = ()
    closed_again: bool = False  # the reasoning was closed more than once, which the answer doesn't show

    @classmethod
    def parse(
        cls, text: str, prefilled: bool = True, truncated: bool = False, earlier: tuple["Exchange", ...] = ()
    ) -> Self:
        """Take sampled text apart. `prefilled`: the prompt already ended in `<think>`."""
        parts = reasoning.parse(text, prefilled=prefilled)
        return cls(
            reasoning=parts.reasoning,
            answer=parts.answer,
            closed=parts.closed,
            well_formed=parts.well_formed and all(exchange.completion.well_formed for exchange in earlier),
            truncated=truncated,
            prefilled=prefilled,
            earlier=earlier,
            closed_again=text.count("</think>") > 1,
        )

    @classmethod
    def of(cls, turns: Sequence[ModelTurn]) -> Self:
        """The last of a conversation's turns, with those before it."""
        earlier: tuple[Exchange, ...] = ()
        for turn in turns[:-1]:
            completion = cls.parse(turn.text, turn.prefilled, turn.truncated, earlier)
            earlier += (Exchange(turn.text, completion, turn.reply or {}),)
        last = turns[-1]
        return cls.parse(last.text, last.prefilled, last.truncated, earlier)

    @property
    def turns(self) -> list["Completion"]:
        """The earlier turns, and this one."""
        return [*(exchange.completion for exchange in self.earlier), self]

    @property
    def all_reasoning(self) -> str:
        """The reasoning of all turns."""
        return "\n\n".join(filter(None, (turn.reasoning for turn in self.turns)))


@dataclass(frozen=True)
class Exchange:
    """A turn of the model's, as text and taken apart, and the task's reply to it."""

    text: str
    completion: Completion
    reply: Message


@dataclass(frozen=True)
class Verdict:
    """`unjudged`: the verifier itself failed; such a completion is left out of the loss, and counted.

    `rewards` has the parts "accuracy" and "format", 0.0 or 1.0 unless the task gives partial credit or composes
    several verifiers, whose scores then stand beside them by name. `reason` says what is wrong.
    """

    outcome: Outcome
    rewards: dict[str, float]
    reason: str
