"""`leg_counting`: the legs of each kind of animal, and the sum so far."""

import re

from longjing.problems import Problem
from longjing.validation import read_yaml

_LEGS = {
    animal: legs
    for legs, animals in read_yaml(__file__, "leg_counting.yaml", dict[int, list[str]]).items()
    for animal in animals
}
_COUNT = re.compile(r"(\d+) ([a-z][a-z ]*?)s?(?=, |\?|$)", re.MULTILINE)


def solution(problem: Problem) -> str | None:
    """The reasoning; None if there is an animal whose legs aren't known."""
    lines, total = list[str](), 0
    for number, animal in re.findall(_COUNT, problem.prompt.partition("if you have")[2]):
        legs = _LEGS.get(animal, _LEGS.get(f"{animal}s"))
        if legs is None:
            return None
        product = int(number) * legs
        line = f"{animal}: {legs} legs, {number} * {legs} = {product}"
        lines.append(f"{line}, {total} + {product} = {total + product}" if lines else line)
        total += product
    return "\n".join(lines) or None
