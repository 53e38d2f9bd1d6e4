"""The thinking budget: how many tokens of a reply the reasoning may take, so that an answer always follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]

_ANSWER_TOKENS = 64  # of a reply are kept for the answer, or half of a short one
# The share of the room for reasoning that each of OpenAI's efforts may use.
_SHARES: dict[Effort, float] = {
    "none": 0.0, "minimal": 0.125, "low": 0.25, "medium": 0.5, "high": 1.0, "xhigh": 1.0,
}  # fmt: skip


def room_to_think(max_tokens: int, closing: int = 4) -> int:
    """Tokens of a reply that reasoning may take: the rest is for closing it, which takes `closing`, and the answer."""
    return max(0, max_tokens - closing - min(_ANSWER_TOKENS, max_tokens // 2))


def budget_of_effort(effort: Effort, max_tokens: int) -> int:
    """The thinking budget that stands for an effort, in a reply of at most `max_tokens`."""
    return max(1, int(_SHARES[effort] * room_to_think(max_tokens)))


@dataclass
class ThinkingBudget:
    """The budget of one reply: its reasoning may take `tokens`, and has `spent` some. Once it is `exhausted`, the
    reasoning is closed with the tokens `closing`, which whoever drives the model forces (`ReasoningController`)."""

    tokens: int
    closing: Sequence[int]
    spent: int = 0

    @classmethod
    def of(cls, wanted: int | None, max_tokens: int, closing: Sequence[int]) -> "ThinkingBudget":
        """What is `wanted`, or all there is, but never so much that no answer fits into `max_tokens`."""
        room = room_to_think(max_tokens, len(closing))
        return cls(room if wanted is None else min(wanted, room), closing)

    @property
    def exhausted(self) -> bool:
        """Whether the reasoning must be closed now."""
        return self.spent >= self.tokens
