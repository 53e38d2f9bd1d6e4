"""How far a stage has come, and the figures that matter while it works, from its metrics."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from longjing.runs.jsonl import Row

_READING = [
    ("loss", "loss", "{:.3f}"),
    ("mtp loss", "mtp_loss", "{:.3f}"),
    ("tokens/s", "tokens_per_second", "{:,.0f}"),
]
FIGURES = {
    "pretrain": _READING,
    "finetune": _READING,
    "reinforce": [
        ("reward", "reward", "{:.2f}"),
        ("accuracy", "accuracy", "{:.0%}"),
        ("length", "length_mean", "{:.0f}"),
        ("truncated", "truncated", "{:.0%}"),
        ("no signal", "groups_without_signal", "{:.0%}"),
        ("tokens/s", "tokens_per_second_sampling", "{:,.0f}"),
    ],
    "distill": [
        ("from the teacher", "kl", "{:.3f}"),
        ("accuracy", "accuracy", "{:.0%}"),
        ("length", "length_mean", "{:.0f}"),
        ("truncated", "truncated", "{:.0%}"),
        ("tokens/s", "tokens_per_second_sampling", "{:,.0f}"),
    ],
    "sample": [
        ("right", "accuracy", "{:.0%}"),
        ("kept a step", "kept", "{:.0f}"),
        ("length", "length_mean", "{:.0f}"),
        ("tokens/s", "tokens_per_second_sampling", "{:,.0f}"),
    ],
    "reward-model": [
        ("loss", "loss", "{:.3f}"),
        ("accuracy", "accuracy", "{:.0%}"),
        ("tokens/s", "tokens_per_second", "{:,.0f}"),
    ],
}


def figures(kind: str, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The figures that matter and their names, smoothed over the last steps."""
    found = []
    for label, key, form in FIGURES[kind]:
        values = [row[key] for row in rows[-5:] if row.get(key) is not None]
        if values:
            found.append((label, form.format(fmean(values))))
    return found


def steps_done(rows: Sequence[Row]) -> int:
    return int(rows[-1]["step"]) + 1 if rows else 0


def steps_planned(settings: Mapping[str, Any], rows: Sequence[Row]) -> int | None:
    """How many there are; None where that is known only when the stage has read its data."""
    if settings["kind"] == "sample":
        return math.ceil(settings["problems"] / settings["problems_per_step"])
    steps: int | None = settings.get("steps", rows[-1].get("steps") if rows else None)
    return steps


def seconds_left(rows: Sequence[Row], steps: int | None) -> float | None:
    """The time that the remaining steps take if they are as long as the last ones; None if that can't be said."""
    recent = rows[-20:]
    if len(recent) < 2 or steps is None or steps_done(rows) == steps:
        return None
    seconds = (recent[-1]["time"] - recent[0]["time"]) / (len(recent) - 1)
    return float(seconds * (steps - steps_done(rows)))


def unjudged(row: Mapping[str, Any]) -> str:
    """What is said behind a figure of an evaluation's summary: how many samples nobody could judge, "" if none."""
    many = row.get("unjudged")
    return f", {many} unjudged" if many else ""
