"""How far a stage has come, and the figures that matter while it works, from its metrics."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from longjing.runs.jsonl import Row
from longjing.runs.metric import Metric


def figures(metrics: Sequence[Metric], rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The figures that matter and their names, smoothed over the last steps."""
    result = []
    for metric in metrics:
        values = [row[metric.name] for row in rows[-5:] if row.get(metric.name) is not None]
        if metric.headline and values:
            result.append((metric.headline, metric.form.format(fmean(values))))
    return result


def steps_done(rows: Sequence[Row]) -> int:
    return int(rows[-1]["step"]) + 1 if rows else 0


def steps_planned(settings: Mapping[str, Any], rows: Sequence[Row]) -> int | None:
    """How many there are; None where that is known only when the stage has read its data."""
    if settings["kind"] == "sample":
        return math.ceil(settings["problems"] / settings["problems_per_step"])
    return settings.get("steps", rows[-1].get("steps") if rows else None)


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
