"""What a kind of stage declares of its numbers: which there are, and which charts they make."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that a stage logs of its steps, or of its end. `headline`: its label on the line of progress, if it
    stands there; `form`: how it is written there."""

    name: str
    headline: str = ""
    form: str = "{:.3f}"


@dataclass(frozen=True)
class Series:
    """A line of a chart: the metric `key`, divided by the metric `per` if there is one. A key that ends in `*` stands
    for a line each of the metrics that begin so, the largest first, labelled with what follows."""

    key: str
    label: str = ""
    per: str = ""


@dataclass(frozen=True)
class Measured:
    """A line of a chart: the held-out accuracy on a split, with its interval."""

    split: str
    label: str


@dataclass(frozen=True)
class ChartSpec:
    """A chart, as `charts.Chart` draws it. `first`: it matters most. `rounding`: the reader knows how small a
    difference is rounding, and a line shows it."""

    title: str
    series: Sequence[Series | Measured]
    note: str = ""
    percent: bool = False
    logarithmic: bool = False
    extreme: bool = False
    first: bool = False
    rounding: bool = False
