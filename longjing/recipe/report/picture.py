"""A graph drawn from the top down, as inline SVG: what comes from what.

Sugiyama's way in its simplest form (Sugiyama, Tagawa, Toda 1981): nodes in rows below all that they come from; a line
that crosses a row gets a place of its own in it, so that it passes between the nodes; each row is ordered by the mean
place of its neighbours until the crossings get no fewer. Here is the geometry; the template draws it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

WIDTH, HEIGHT = 176, 44  # of a node
_ROW, _GAP, _LANE, _MARGIN = 78, 18, 16, 6
_SWEEPS = 8


@dataclass(frozen=True)
class Place:
    """Where a node is drawn: its left upper corner."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Picture:
    """The geometry. `lines`: (from, to, path)."""

    width: float
    height: float
    places: list[Place]
    lines: list[tuple[str, str, str]]


Point = tuple[str, str, int]  # a node (name, "", row), or where a line from one to another crosses a row


def draw(sources: Mapping[str, Sequence[str]]) -> Picture:
    """Lay out the nodes (the keys), each below its sources; sources come before what comes from them."""
    rows, chains = _rows(sources)
    neighbours: dict[Point, list[Point]] = {point: [] for row in rows for point in row}
    for chain in chains:
        for upper, lower in pairwise(chain):
            neighbours[upper].append(lower)
            neighbours[lower].append(upper)
    rows = _untangled(rows, chains, neighbours)
    centres = _centres(rows, neighbours)
    left = min(x - _width(point) / 2 for point, x in centres.items()) - _MARGIN
    right = max(x + _width(point) / 2 for point, x in centres.items()) + _MARGIN
    at = {point: (round(x - left, 1), _MARGIN + point[2] * _ROW) for point, x in centres.items()}
    return Picture(
        round(right - left, 1),
        2 * _MARGIN + (len(rows) - 1) * _ROW + HEIGHT,
        [Place(point[0], at[point][0] - WIDTH / 2, at[point][1]) for point in at if not point[1]],
        [(chain[0][0], chain[-1][0], _path([at[point] for point in chain])) for chain in chains],
    )


def _rows(sources: Mapping[str, Sequence[str]]) -> tuple[list[list[Point]], list[list[Point]]]:
    """The rows of points, and the chain of points that each line passes."""
    depth: dict[str, int] = {}
    for name, above in sources.items():
        depth[name] = max((depth[source] + 1 for source in above), default=0)
    for name, above in sources.items():
        below = [depth[other] for other, their in sources.items() if name in their]
        if not above and below:  # what comes from nothing stands right above where it is needed first
            depth[name] = min(below) - 1
    nodes = {name: (name, "", row) for name, row in depth.items()}
    rows: list[list[Point]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in nodes.values():
        rows[node[2]].append(node)
    chains = []
    for name, above in sources.items():
        for source in dict.fromkeys(above):
            crossed: list[Point] = [(source, name, row) for row in range(depth[source] + 1, depth[name])]
            for point in crossed:
                rows[point[2]].append(point)
            chains.append([nodes[source], *crossed, nodes[name]])
    return rows, chains


def _untangled(
    rows: list[list[Point]], chains: list[list[Point]], neighbours: Mapping[Point, list[Point]]
) -> list[list[Point]]:
    """The rows, each put into an order with few crossings."""
    best, fewest = rows, _crossings(rows, chains)
    for sweep in range(_SWEEPS):
        rows = [list(row) for row in rows]
        order = range(len(rows)) if sweep % 2 == 0 else range(len(rows) - 1, -1, -1)
        for number in order:
            position = {point: index for row in rows for index, point in enumerate(row)}
            beyond = number - 1 if sweep % 2 == 0 else number + 1

            def mean(point: Point, beyond: int = beyond, position: dict[Point, int] = position) -> float:
                return fmean(
                    [position[other] for other in neighbours[point] if other[2] == beyond] or [position[point]]
                )

            rows[number].sort(key=mean)
        if (crossings := _crossings(rows, chains)) < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: Sequence[Sequence[Point]], chains: Sequence[Sequence[Point]]) -> int:
    position = {point: index for row in rows for index, point in enumerate(row)}
    lines = [(upper, lower) for chain in chains for upper, lower in pairwise(chain)]
    return sum(
        (position[a] - position[c]) * (position[b] - position[d]) < 0
        for number, (a, b) in enumerate(lines)
        for c, d in lines[number + 1 :]
        if a[2] == c[2]
    )


def _centres(rows: Sequence[Sequence[Point]], neighbours: Mapping[Point, list[Point]]) -> dict[Point, float]:
    """The middle of each point: near its neighbours', with room for all, in the row's order."""
    centres = {point: x for row in rows for point, x in _apart(row, [0.0] * len(row))}
    for _ in range(_SWEEPS):
        for row in (*rows, *reversed(rows)):
            wanted = [fmean([centres[other] for other in neighbours[point]] or [centres[point]]) for point in row]
            centres.update(_apart(row, wanted))
    return centres


def _apart(row: Sequence[Point], wanted: Sequence[float]) -> Iterator[tuple[Point, float]]:
    """Each point as near to where it is wanted as its neighbours in the row allow: the mean of pushing all to
    the right and pushing all to the left."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (_width(one) + _width(other)) / 2 + _GAP)
    free = [x - offset for x, offset in zip(wanted, offsets, strict=True)]
    for index, point in enumerate(row):
        yield point, (max(free[: index + 1]) + min(free[index:])) / 2 + offsets[index]


def _width(point: Point) -> float:
    return _LANE if point[1] else WIDTH


def _path(points: Sequence[tuple[float, float]]) -> str:
    """A smooth line from the foot of the first node to the head of the last; straight across the rows between."""
    first, *between, last = points
    x, y = first[0], first[1] + HEIGHT
    path = f"M{x:g} {y:g}"
    for to_x, to_y in [*between, last]:
        middle = (y + to_y) / 2
        path += f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
        x, y = to_x, to_y
        if (to_x, to_y) != last:
            y += HEIGHT
            path += f"V{y:g}"
    return path
