"""What a sample must be to be kept: right, readable, and not the same as another."""

from collections.abc import Collection

from pydantic import Field

from longjing.learning.rollouts import Group
from longjing.learning.settings import Settings
from longjing.problems.language import share
from longjing.problems.repetition import repetition

# Why a sample isn't kept, in the order in which it is asked; the first reason counts.
REASONS = ("unjudged", "truncated", "malformed", "wrong", "language", "repetition", "long", "duplicate", "surplus")


class KeepSettings(Settings):
    """What a sample must be to be kept. It always has to be judged, to have ended, and to keep the form."""

    correct: bool = True
    min_language: float = Field(
        0.9, ge=0, le=1, description="share of the words in the problem's language, of reasoning and answer each"
    )
    max_repetition: float = Field(0.2, ge=0, le=1, description="share of the text that repeats itself")
    max_length: int | None = Field(None, ge=1, description="tokens of the completion")
    per_problem: int | None = Field(None, ge=1, description="samples kept of one problem, the first ones")
    deduplicate: bool = Field(True, description="keep the same reasoning once")


def filter_samples(group: Group, keep: KeepSettings, control: Collection[str] = ()) -> list[str | None]:
    """For each sample of a problem the reason why it isn't kept, one of `REASONS`, or None if it is.

    `control`: tokens of the template's, which nobody can learn to say.
    """
    reasons: list[str | None] = []
    seen: set[str] = set()
    for number in range(len(group.generations)):
        reason = _flaw(group, number, keep, control)
        completion = group.completions[number]
        text = " ".join((completion.all_reasoning or completion.answer).split())
        if reason is None and keep.deduplicate and text in seen:
            reason = "duplicate"
        if reason is None and reasons.count(None) == keep.per_problem:
            reason = "surplus"
        if reason is None:
            seen.add(text)
        reasons.append(reason)
    return reasons


def _flaw(group: Group, number: int, keep: KeepSettings, control: Collection[str]) -> str | None:
    """What is wrong with a sample by itself."""
    completion, verdict = group.completions[number], group.verdicts[number]
    if verdict.outcome == "unjudged":
        return "unjudged"
    if completion.truncated:
        return "truncated"
    parts = [part for turn in completion.turns for part in (turn.reasoning, turn.answer) if part]
    if not verdict.rewards.get("format") or any(token in part for token in control for part in parts):
        return "malformed"
    if keep.correct and verdict.outcome != "correct":
        return "wrong"
    if min((share(part, group.problem.language) for part in parts), default=0.0) < keep.min_language:
        return "language"
    if max(map(repetition, parts), default=0.0) > keep.max_repetition:
        return "repetition"
    if keep.max_length is not None and group.generations[number].length > keep.max_length:
        return "long"
    return None


def rejection_key(reason: str) -> str:
    """The metric that counts the samples rejected for this reason."""
    return f"rejected_{reason}"
