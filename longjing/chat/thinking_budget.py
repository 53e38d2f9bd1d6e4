"""The thinking budget: how many tokens of a reply the reasoning may take, so that an answer always follows."""

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
