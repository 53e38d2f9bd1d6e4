"""The charts that a kind of stage declares, from its logs. A chart without a single value is left out of the page."""

from collections.abc import Iterator, Sequence

from longjing.runs.charts import Chart, Line
from longjing.runs.jsonl import Row
from longjing.runs.metric import ChartSpec, Measured, Series

_LINES = 5  # for which there are colours


def curves(
    specs: Sequence[ChartSpec], rows: Sequence[Row], evaluations: Sequence[Row], allowed: float | None = None
) -> list[Chart]:
    """The charts that have a value. `allowed`: the difference between engine and trainer that is rounding, in nats,
    where the reader knows it."""
    charts = []
    for spec in specs:
        limit = allowed if spec.rounding else None
        lines: list[Line] = []
        for series in spec.series:
            if isinstance(series, Measured):
                lines.append(_measured(evaluations, series))
            else:
                lines += [_line(rows, each) for each in _expanded(series, rows)]
        note = spec.note if limit is None else f"{spec.note} Below the line it is rounding."
        charts.append(Chart(spec.title, lines, note, spec.percent, spec.logarithmic, limit, spec.extreme))
    return charts


def _expanded(series: Series, rows: Sequence[Row]) -> Iterator[Series]:
    """The series itself, or what it stands for; of many the largest, and none that is always zero."""
    if not series.key.endswith("*"):
        yield series
        return
    prefix = series.key.removesuffix("*")
    keys = sorted({key for row in rows for key in row if key.startswith(prefix)})
    if series.per:
        totals = {key: sum(row.get(key, 0) for row in rows) for key in keys}
        keys = sorted(filter(totals.get, totals), key=lambda key: -totals[key])[:_LINES]
    for key in keys:
        yield Series(key, key.removeprefix(prefix), series.per)


def _line(rows: Sequence[Row], series: Series) -> Line:
    points = []
    for row in rows:
        value, total = row.get(series.key), row.get(series.per) if series.per else 1
        if value is not None and total:
            points.append((row["step"] + 1, value / total if series.per else value))
    return Line(series.label, points)


def _measured(evaluations: Sequence[Row], series: Measured) -> Line:
    rows = [row for row in evaluations if row["split"] == series.split and row["pass_at_1"] is not None]
    return Line(
        series.label, [(row["step"] + 1, row["pass_at_1"]) for row in rows], [(row["low"], row["high"]) for row in rows]
    )
