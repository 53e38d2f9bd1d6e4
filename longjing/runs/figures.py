"""How far a stage has come, and the figures that matter while it works, from its metrics."""

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


def steps_planned(planned: int | None, rows: Sequence[Row]) -> int | None:
    """How many there are: as the settings say, or else the log; None if neither does yet."""
    return planned if planned is not None or not rows else rows[-1].get("steps")


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
