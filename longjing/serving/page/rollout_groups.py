"""A group of completions as the page shows it: each cut into its tokens, reasoning apart from answer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import fmean
from typing import Any

from longjing.runs.jsonl import Row
from longjing.serving.page.runs import StageView
from longjing.text import Detokenizer, Tokenizer
from longjing.text.reasoning import Delta, ReasoningStream, parse

_SHOWN = 24_000  # tokens of a group that a page holds without getting slow
_ENDINGS = {"stop": "ended by itself", "length": "cut off"}
_SHADES = 8
_FAINTEST, _STRONGEST = 0.05, 4.0  # nats below certainty, where the colour begins and ends
_MARKS = ("<think>", "</think>")


@dataclass(frozen=True)
class TokenView:
    """A piece of text; `mark`: one that isn't shown as text, such as the end."""

    text: str
    logprob: float | None = None
    advantage: float | None = None
    mark: bool = False

    def shade(self, by_advantage: bool, largest: float) -> str:
        """The classes of its colour, by its improbability or by its advantage beside the `largest`, of either sign."""
        if by_advantage:
            level = round(abs(self.advantage or 0) / largest * _SHADES) if largest else 0
            return f"{'up' if (self.advantage or 0) > 0 else 'down'} n{level}" if level else ""
        if self.logprob is None or -self.logprob < _FAINTEST:
            return ""
        return f"low n{max(1, min(_SHADES, round(-self.logprob / _STRONGEST * _SHADES)))}"

    @property
    def facts(self) -> str:
        """What a pointer on it is told."""
        if self.logprob is None:
            return ""
        facts = f"log-probability {self.logprob:.3f} ({math.exp(min(0.0, self.logprob)):.1%})"
        return facts + (f", advantage {self.advantage:+.3f}" if self.advantage is not None else "")


@dataclass(frozen=True)
class TurnView:
    """A turn: what the model wrote, and what the task said to that, if it did."""

    reasoning: list[TokenView]
    answer: list[TokenView]
    reply: str


@dataclass(frozen=True)
class Card:
    """One completion. `facts`: what it earned and how long it is, in words."""

    outcome: str
    ending: str
    facts: list[tuple[str, str]]
    turns: list[TurnView]


@dataclass(frozen=True)
class GroupView:
    """What was sampled for one problem at one step."""

    step: int
    prompt: str
    answer: str
    cards: list[Card]
    summary: str
    largest: float  # advantage, by its size
    tokens: bool  # whether the text is known by its tokens


def rows_of_step(stage: StageView, step: int) -> list[Row]:
    """The groups of a step in their order."""
    return [row for row in map(stage.rollouts.row, stage.rollouts.steps.get(step, [])) if row is not None]


def most_telling(rows: Sequence[Row]) -> int:
    """The index of the first group in which some are right and some aren't; 0 if there is none."""
    outcomes = [{completion.get("outcome") == "correct" for completion in row["completions"]} for row in rows]
    return next((index for index, kinds in enumerate(outcomes) if len(kinds) > 1), 0)


def earlier_row(stage: StageView, row: Row) -> Row | None:
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


def group_view(row: Row, tokenizer: Tokenizer | None) -> GroupView:
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
    return GroupView(
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
    return Card(str(completion["outcome"]), ending, facts, list(_turns(completion, tokenizer, room)))


def _length(completion: Mapping[str, Any]) -> int | None:
    if "tokens" not in completion:
        return completion.get("length")
    return len(completion["tokens"]) - sum(end - start for start, end in completion.get("given") or [])


def _right(completions: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(completion.get('outcome') == 'correct' for completion in completions)} of {len(completions)}"


def _turns(completion: Mapping[str, Any], tokenizer: Tokenizer | None, room: int) -> Iterator[TurnView]:
    """The model's turns; what was said to it has no tokens of the model's."""
    earlier, insertions = completion.get("earlier") or [], completion.get("given") or []
    starts = [0, *(end for _, end in insertions)]
    ends = [*(start for start, _ in insertions), None]
    for turn, start, end in zip([*earlier, {}], starts, ends, strict=True):
        rows = ("tokens", "logprobs", "teacher_logprobs")
        cut = {name: completion[name][start:end] for name in rows if completion.get(name)}
        reply = str((turn.get("reply") or {}).get("content") or "")
        reasoning, answer = token_parts({**completion, **turn, **cut}, tokenizer)
        yield TurnView(shorten(reasoning, room), shorten(answer, room), reply)


def token_parts(completion: Mapping[str, Any], tokenizer: Tokenizer | None) -> tuple[list[TokenView], list[TokenView]]:
    """Reasoning and answer: token by token if the tokens say what the text says, else each in one piece."""
    text = str(completion["text"])
    # Logs that don't say are of R1's form: the prompt opens the reasoning, where the text doesn't.
    prefilled = completion.get("prefilled", not text.lstrip().startswith("<think>"))
    ids, logprobs = completion.get("tokens") or [], completion.get("logprobs") or []
    advantage, teacher = completion.get("advantage"), completion.get("teacher_logprobs") or []
    complete = len(ids) == len(logprobs) > 0 and None not in logprobs
    if tokenizer is not None and complete and tokenizer.decode(ids, skip_special_tokens=True) == text:
        gains = [advantage] * len(ids)
        if len(teacher) == len(ids) and None not in teacher:  # distillation: each token has its own
            gains = [theirs - own for theirs, own in zip(teacher, logprobs, strict=True)]
        return _cut(ids, logprobs, gains, tokenizer, ReasoningStream(prefilled))
    parsed = parse(text, prefilled)
    reasoning, answer = (
        [TokenView(part, advantage=advantage)] if part else [] for part in (parsed.reasoning, parsed.answer)
    )
    return reasoning, answer


def _cut(
    ids: Sequence[int], logprobs: Sequence[float], gains: Sequence[float | None],
    tokenizer: Tokenizer, stream: ReasoningStream,
) -> tuple[list[TokenView], list[TokenView]]:  # fmt: skip
    """What several tokens make together (a character of many bytes) is one piece, with their joint log-probability."""
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=True)
    reasoning: list[TokenView] = []
    answer: list[TokenView] = []
    logprob = 0.0

    def write(delta: Delta, gain: float | None) -> bool:
        if delta.reasoning:
            reasoning.append(TokenView(delta.reasoning, logprob, gain))
        if delta.answer:
            answer.append(TokenView(delta.answer, logprob, gain))
        return bool(delta.reasoning or delta.answer)

    ended = ids[-1] in tokenizer.end_ids
    for index in range(len(ids) - ended):
        logprob += logprobs[index]
        piece, thinking = detokenizer.add(ids[index]), stream.in_reasoning
        written = write(stream.feed(piece), gains[index])
        if not written and piece.strip() in _MARKS:
            part = reasoning if thinking or stream.in_reasoning else answer
            part.append(TokenView(piece.strip(), logprob, gains[index], mark=True))
        if written or piece.strip() in _MARKS or piece.isspace():  # white space around a mark isn't shown
            logprob = 0.0
    write(stream.feed(detokenizer.flush()), gains[-1])
    write(stream.finish(), gains[-1])
    if ended:
        part = reasoning if stream.in_reasoning else answer
        part.append(TokenView("end", logprobs[-1], gains[-1], mark=True))
    return reasoning, answer


def shorten(tokens: list[TokenView], room: int) -> list[TokenView]:
    """The beginning and the end of what is too long to show."""
    if len(tokens) == 1 and len(tokens[0].text) > 6 * room:  # known as text only
        text, cut = tokens[0].text, 3 * room
        gap = TokenView(f"… {len(text) - 2 * cut:,} characters left out …", mark=True)
        return [TokenView(text[:cut]), gap, TokenView(text[-cut:])]
    if len(tokens) <= room:
        return tokens
    cut = room // 2
    gap = TokenView(f"… {len(tokens) - 2 * cut:,} tokens left out …", mark=True)
    return [*tokens[:cut], gap, *tokens[-cut:]]
