"""A group of completions as the page shows it: each cut into its tokens, reasoning apart from answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean
from typing import Any

from longjing.runs.jsonl import Row
from longjing.serving.page.runs import Stage
from longjing.serving.page.tokens import Token, shorten, token_turns
from longjing.text.tokenizer import Tokenizer

_SHOWN = 24_000  # tokens of a group that a page holds without getting slow
_ENDINGS = {"stop": "ended by itself", "length": "cut off"}


@dataclass(frozen=True)
class TurnView:
    """A turn: what the model wrote, and what the task said to that, if it did."""

    reasoning: list[Token]
    answer: list[Token]
    reply: str


@dataclass(frozen=True)
class Card:
    """One completion. `facts`: what it earned and how long it is, in words."""

    outcome: str
    ending: str
    facts: list[tuple[str, str]]
    turns: list[TurnView]


@dataclass(frozen=True)
class Group:
    """What was sampled for one problem at one step."""

    step: int
    prompt: str
    answer: str
    cards: list[Card]
    summary: str
    largest: float  # advantage, by its size
    tokens: bool  # whether the text is known by its tokens


def rows_of_step(stage: Stage, step: int) -> list[Row]:
    """The groups of a step in their order."""
    rows = map(stage.rollouts.row, stage.rollouts.steps.get(step, []))
    return [row for row in rows if row is not None]


def most_telling(rows: Sequence[Row]) -> int:
    """The index of the first group in which some are right and some aren't; 0 if there is none."""
    outcomes = [{completion.get("outcome") == "correct" for completion in row["completions"]} for row in rows]
    return next((index for index, kinds in enumerate(outcomes) if len(kinds) > 1), 0)


def earlier_row(stage: Stage, row: Row) -> Row | None:
    """The group to compare a later one with: of the same problem if it was met in the first half of the steps up to
    then, else the one of the first step whose problem is most like it. None at the first step."""
    steps = stage.rollouts.steps
    first = min(steps, default=row["step"])
    if first >= row["step"]:
        return None
    middle = (first + row["step"]) // 2
    early = (entry for step in steps if step <= middle for entry in steps[step])
    same = next((entry for entry in early if entry.problem == row["problem"]), None)
    if same is not None:
        return stage.rollouts.row(same)

    def likeness(other: Row) -> tuple[bool, float]:
        matcher = SequenceMatcher(None, str(other["prompt"]), str(row["prompt"]), autojunk=False)
        return other.get("language") == row.get("language"), matcher.ratio()

    return max(rows_of_step(stage, first), key=likeness, default=None)


def label(index: int, row: Row) -> str:
    """A line for the list of problems."""
    prompt = " ".join(str(row["prompt"]).split())
    return f"{index + 1} · {_right(row['completions'])} · {prompt[:90]}{'…' if len(prompt) > 90 else ''}"


def group_view(row: Row, tokenizer: Tokenizer | None) -> Group:
    """A logged group as the page shows it."""
    completions = row["completions"]
    room = max(100, _SHOWN // (2 * max(1, len(completions))))
    cards = [card_view(completion, tokenizer, room) for completion in completions]
    rewards = [completion["reward"] for completion in completions if completion.get("reward") is not None]
    lengths = [length for completion in completions if (length := _length(completion)) is not None]
    summary = [_right(completions) + " right"]
    summary += [f"mean reward {fmean(rewards):.2f}"] if rewards else []
    summary += [f"mean length {fmean(lengths):.0f}"] if lengths else []
    every = [token for each in cards for turn in each.turns for token in (*turn.reasoning, *turn.answer)]
    return Group(
        row["step"], str(row["prompt"]), str(row.get("answer") or ""), cards, " · ".join(summary),
        largest=max((abs(token.advantage) for token in every if token.advantage), default=0.0),
        tokens=any(token.logprob is not None for token in every),
    )  # fmt: skip


def card_view(completion: Mapping[str, Any], tokenizer: Tokenizer | None, room: int) -> Card:
    """A logged completion as the page shows it. `room`: how many tokens may be shown of each part."""
    facts = [
        (name, form.format(completion[name]))
        for name, form in (("reward", "{:.2f}"), ("advantage", "{:+.2f}"))
        if completion.get(name) is not None
    ]
    facts += [(part, f"{value:.2g}") for part, value in completion.get("rewards", {}).items()]
    if (length := _length(completion)) is not None:
        facts.append(("tokens", f"{length:,}"))
    reason = str(completion.get("finish_reason", ""))
    ending = _ENDINGS.get(reason, reason)
    if "rejected" in completion:  # by a stage that makes data
        ending += f", not kept: {completion['rejected']}" if completion["rejected"] else ", kept"
    views = [
        TurnView(shorten(reasoning, room), shorten(answer, room), reply)
        for reasoning, answer, reply in token_turns(completion, tokenizer)
    ]
    return Card(str(completion["outcome"]), ending, facts, views)


def _length(completion: Mapping[str, Any]) -> int | None:
    if "tokens" not in completion:
        return completion.get("length")
    return len(completion["tokens"]) - sum(end - start for start, end in completion.get("given") or [])


def _right(completions: Sequence[Mapping[str, Any]]) -> str:
    right = sum(completion.get("outcome") == "correct" for completion in completions)
    return f"{right} of {len(completions)}"
