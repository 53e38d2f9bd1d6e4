"""A chart shows what it was given, within its frame, whatever that is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longjing.runs.charts import HEIGHT, WIDTH, Chart, Line, _ticks

FINITE = st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)


def numbers(path: str) -> list[tuple[float, float]]:
    assert re.fullmatch(r"(M|L)?([ML]?-?[\d.]+ -?[\d.]+)*", path), path
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@given(st.lists(FINITE, min_size=1, max_size=600), st.booleans(), st.booleans(), st.booleans())
def test_everything_is_drawn_within_the_frame(ys: list[float], percent: bool, logarithmic: bool, extreme: bool) -> None:
    line = Line("a", list(enumerate(ys)))
    plot = Chart("t", [line], percent=percent, logarithmic=logarithmic, extreme=extreme).plot()
    if plot is None:
        assert logarithmic and all(y <= 0 for y in ys)
        return
    (trace,) = plot.traces
    drawn = numbers(trace.path) + numbers(trace.raw)
    assert drawn and all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)
    assert all(0 <= at <= WIDTH for at, _ in plot.x_ticks) and all(0 <= at <= HEIGHT for at, _ in plot.y_ticks)
    assert len(trace.hover) <= 240


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=200, unique=True))
def test_larger_values_are_drawn_higher(ys: list[int]) -> None:
    plot = Chart("t", [Line("a", list(enumerate(map(float, ys))))], extreme=True).plot()
    assert plot is not None
    heights = [y for _, y in numbers(plot.traces[0].path)]
    assert min(heights) == heights[ys.index(max(ys))] and max(heights) == heights[ys.index(min(ys))]


@given(FINITE, FINITE, st.integers(2, 8))
def test_ticks_are_few_round_and_span_the_range(one: float, other: float, count: int) -> None:
    low, high = sorted((one, other))
    ticks = _ticks(low, high, count)
    if low == high:
        assert ticks == [low]
        return
    step = max(abs(low), abs(high)) * 1e-9 + (high - low) * 0.01
    assert ticks == sorted(ticks) and ticks[0] <= low + step and ticks[-1] >= high - step
    assert len(ticks) <= count + 3


def test_a_maximum_survives_thinning() -> None:
    points = [(float(x), 1e-6) for x in range(5000)]
    points[1234] = (1234.0, 1e-2)
    plot = Chart("t", [Line("a", points)], logarithmic=True, extreme=True, limit=1e-5).plot()
    assert plot is not None and plot.limit is not None
    assert min(y for _, y in numbers(plot.traces[0].path)) < plot.limit


def test_shares_are_shown_in_percent_and_intervals_as_whiskers() -> None:
    plot = Chart("t", [Line("a", [(0, 0.25), (9, 0.5)], [(0.2, 0.3), (0.4, 0.6)])], percent=True).plot()
    assert plot is not None
    (trace,) = plot.traces
    assert [label for _, _, label in trace.hover] == ["25%", "50%"] and not trace.raw
    assert all(high < y < low for (_, y), (_, low, high) in zip(trace.dots, trace.whiskers, strict=True))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1e-5, "1e-5"), (2.5e-6, "2.5e-6"), (1500, "1,500"), (0.02, "0.02"), (3e6, "3e6")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert Chart("t", []).format(value) == text


def test_an_empty_chart_is_none() -> None:
    assert Chart("t", [Line("a", [])]).plot() is None
