"""Line charts as inline SVG.

A report must open anywhere, offline, in years, on a phone: a plotting library would add megabytes of script
to every run, for what is a path, two axes and a few labels. Here is the geometry; the reader's template draws it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

WIDTH, HEIGHT = 440, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 424, 12, 192
_POINTS = 240  # more would not be seen

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One series. `interval`: low and high of each point, drawn as whiskers; such a line isn't smoothed."""

    label: str
    points: Sequence[Point]
    interval: Sequence[Point] = ()


@dataclass(frozen=True)
class Chart:
    """`percent`: values are shares. `logarithmic`: the y axis is. `limit`: what the values should stay below.
    `extreme`: the maxima matter, so points are neither smoothed nor averaged where there are too many."""

    title: str
    lines: Sequence[Line]
    note: str = ""
    percent: bool = False
    logarithmic: bool = False
    limit: float | None = None
    extreme: bool = False

    def plot(self) -> "Plot | None":
        """The geometry; None if there is nothing to show."""
        lines = [line for line in map(self._usable, self.lines) if line.points]
        if not lines:
            return None
        xs = [x for line in lines for x, _ in line.points]
        ys = [y for line in lines for _, y in line.points]
        ys += [y for line in lines for ends in line.interval for y in ends]
        ys += [] if self.limit is None else [self.limit]
        if min(ys) == max(ys) and not self.logarithmic:
            ys.append(0.0 if any(ys) else 1.0)
        x_ticks = [x for x in _ticks(min(xs), max(xs), 5, smallest=1) if min(xs) <= x <= max(xs)]
        y_ticks = _decades(min(ys), max(ys)) if self.logarithmic else _ticks(min(ys), max(ys), 4)
        across = _scale(min(xs), max(xs), _LEFT, _RIGHT)
        up = _scale(self._y(min(*ys, y_ticks[0])), self._y(max(*ys, y_ticks[-1])), _BOTTOM, _TOP)

        def to_pixels(point: Point) -> Point:
            return across(point[0]), up(self._y(point[1]))

        plot = Plot(self, [(across(x), f"{x:g}") for x in x_ticks], [(up(self._y(y)), self.format(y)) for y in y_ticks])
        for line in lines:
            measured = bool(line.interval)
            smooth = line.points if measured or len(line.points) < 20 or self.extreme else _smoothed(line.points)
            plot.traces.append(
                Trace(
                    line.label,
                    raw=_path(map(to_pixels, line.points)) if smooth is not line.points else "",
                    path=_path(map(to_pixels, smooth)),
                    dots=[to_pixels(point) for point in line.points] if measured or len(line.points) == 1 else [],
                    whiskers=[
                        (across(x), up(self._y(low)), up(self._y(high)))
                        for (x, _), (low, high) in zip(line.points, line.interval, strict=bool(line.interval))
                    ],
                    hover=[(round(across(x), 1), f"{x:g}", self.format(y)) for x, y in line.points],
                )
            )
        if self.limit is not None:
            plot.limit = up(self._y(self.limit))
        return plot

    def format(self, value: float) -> str:
        if self.percent:
            return f"{value:.3g}%" if value % 1 else f"{value:.0f}%"
        if value and not 1e-3 <= abs(value) < 1e5:
            return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-").replace("e+0", "e")
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

    def _usable(self, line: Line) -> Line:
        """Without what can't be drawn, thinned out, shares in percent."""
        factor = 100.0 if self.percent else 1.0
        points = [(x, y * factor) for x, y in line.points if not self.logarithmic or y > 0]
        if line.interval:
            return Line(line.label, points, [(low * factor, high * factor) for low, high in line.interval])
        join: Callable[[Sequence[float]], float] = max if self.extreme else fmean
        size = math.ceil(len(points) / _POINTS) or 1
        chunks = [points[start : start + size] for start in range(0, len(points), size)]
        return Line(line.label, [(chunk[-1][0], join([y for _, y in chunk])) for chunk in chunks])

    def _y(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


@dataclass(frozen=True)
class Trace:
    """A line as drawn: SVG paths, and for the pointer (x, step, value) of each point."""

    label: str
    raw: str
    path: str
    dots: list[Point]
    whiskers: list[tuple[float, float, float]]
    hover: list[tuple[float, str, str]]


@dataclass
class Plot:
    """A chart as drawn. Ticks are (position, label)."""

    chart: Chart
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    traces: list[Trace] = field(default_factory=list)
    limit: float | None = None


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    if low == high:
        return lambda value: (start + end) / 2
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _ticks(low: float, high: float, count: int, smallest: float = 0.0) -> list[float]:
    """About `count` round numbers that span the range, at least `smallest` apart."""
    if low == high:
        return [low]
    rough = max((high - low) / count, smallest)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    first, last = math.floor(low / step + 0.001), math.ceil(high / step - 0.001)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 4))]


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean of about a twentieth of the points, centred, so that a trend isn't delayed."""
    reach = max(1, len(points) // 40)
    around = (points[max(0, index - reach) : index + reach + 1] for index in range(len(points)))
    return [(x, fmean(y for _, y in near)) for (x, _), near in zip(points, around, strict=True)]


def _path(points: "map[Point] | Sequence[Point]") -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
