"""A picture of any lineage: nothing overlaps, everything points down, nothing lies outside."""

import re
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from longjing.recipe.report.picture import HEIGHT, WIDTH, draw


@st.composite
def lineages(draw_from: st.DrawFn) -> dict[str, list[str]]:
    names = [f"n{number}" for number in range(draw_from(st.integers(1, 12)))]
    return {
        name: draw_from(st.lists(st.sampled_from(names[:index]), unique=True, max_size=4)) if index else []
        for index, name in enumerate(names)
    }


@given(lineages())
def test_any_lineage_is_drawn_in_order(sources: dict[str, list[str]]) -> None:
    picture = draw(sources)
    places = {box.name: box for box in picture.places}
    assert places.keys() == sources.keys()
    for one, other in combinations(places.values(), 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT, "two nodes overlap"
    for box in places.values():
        assert 0 <= box.x <= picture.width - WIDTH and 0 <= box.y <= picture.height - HEIGHT
    assert sorted((source, target) for source, target, _ in picture.lines) == sorted(
        (source, target) for target, above in sources.items() for source in above
    )
    for source, target, path in picture.lines:
        assert places[source].y + HEIGHT < places[target].y
        points = corners(path)
        assert points[0] == (places[source].x + WIDTH / 2, places[source].y + HEIGHT)
        assert points[-1] == (places[target].x + WIDTH / 2, places[target].y)
        assert [y for _, y in points] == sorted(y for _, y in points)
        for x, y in points[1:-1]:
            for box in places.values():
                inside = box.x < x < box.x + WIDTH and box.y <= y <= box.y + HEIGHT
                assert not inside, "a line runs through a node"


def corners(path: str) -> list[tuple[float, float]]:
    """Where the pieces of a path begin and end."""
    points: list[tuple[float, float]] = []
    for letter, numbers in re.findall(r"([MCV])([^MCV]*)", path):
        values = [float(number) for number in numbers.split()]
        points.append((points[-1][0], values[0]) if letter == "V" else (values[-2], values[-1]))
    return points


def test_crossings_that_can_be_avoided_are() -> None:
    picture = draw({"a": [], "b": [], "c": ["b"], "d": ["a"]})
    x = {box.name: box.x for box in picture.places}
    assert (x["a"] < x["b"]) == (x["d"] < x["c"])


def test_what_comes_from_nothing_stands_above_its_first_use() -> None:
    picture = draw({"a": [], "b": ["a"], "c": ["b"], "late": [], "d": ["c", "late"]})
    y = {box.name: box.y for box in picture.places}
    assert y["late"] == y["c"]
