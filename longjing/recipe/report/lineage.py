"""The lineage as a picture: what every stage takes and makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longjing.recipe.report.picture import HEIGHT, WIDTH, Picture, draw
from longjing.recipe.report.sections import Section
from longjing.recipe.stages import makes, references

_NAME = 24  # letters that fit into a node


@dataclass(frozen=True)
class LineageNode:
    """A box: what it is called, what it holds, and its class: how far it is, or that it came from outside."""

    name: str
    shown: str
    note: str
    state: str
    x: float
    y: float


@dataclass(frozen=True)
class Lineage:
    """`box`: width and height of a node."""

    picture: Picture
    nodes: list[LineageNode]
    box: tuple[int, int] = (WIDTH, HEIGHT)

    @classmethod
    def of(cls, stages: Sequence[Mapping[str, Any]], sections: Sequence[Section]) -> "Lineage":
        """The lineage to be drawn, from the stages' settings and what there is to show of each."""
        sources: dict[str, list[str]] = {}
        for stage in stages:
            taken = [reference.name for reference in references(stage)]
            for name in taken:
                sources.setdefault(name, [])
            sources[stage["name"]] = taken
        picture = draw(sources)
        by_name = {section.name: section for section in sections}
        nodes = []
        for box in picture.places:
            section = by_name.get(box.name)
            note, state = ("from outside", "outside") if section is None else _described(section)
            shown = box.name if len(box.name) <= _NAME else f"…{box.name[1 - _NAME :]}"
            nodes.append(LineageNode(box.name, shown, note, state, box.x, box.y))
        return cls(picture, nodes)


def _described(section: Section) -> tuple[str, str]:
    made = makes(section.kind)
    if section.gate is not None:
        passed = section.gate["passed"]
        return f"{made} · gate {'passed' if passed else 'closed'}", "passed" if passed else "closed"
    if section.finished:
        return made, "passed"
    return (f"{made} · going on", "begun") if section.done else (f"{made} · not begun", "planned")
