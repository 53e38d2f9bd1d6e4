"""`simple_equations`: both kinds of terms collected, then the number, then the factor, taken to the other side."""

import re

from longjing.data.demonstrations import calculation
from longjing.problems import Problem


def solution(problem: Problem) -> str | None:
    """The reasoning; None for an equation that isn't `number*x + number = number`."""
    found = re.search(r"([-+*\da-z][-+*\d a-z]*) = (-?\d+)", problem.prompt.partition(":")[2] or problem.prompt)
    if found is None:
        return None
    left, right = found[1].strip(), int(found[2])
    terms = re.fullmatch(r"(?:(-?\d+) ([+-]) )?(-?)(?:(\d+)\*)?([a-z])(?: ([+-]) (\d+))?", left)
    if terms is None:
        return None
    before, sign, minus, factor, name, sign_after, after = terms.groups()
    multiple = int(factor or 1) * (-1 if minus or sign == "-" else 1)
    number = int(before or 0) + int(f"{sign_after or '+'}{after or 0}")
    lines = [f"{left} = {right}"]
    if number:
        operator, size = ("-", number) if number > 0 else ("+", -number)
        lines += calculation.steps(right, operator, size)
        right -= number
        lines.append(f"{_product(multiple, name)} = {right}")
    if multiple == 1:
        return "\n".join(lines)
    if right % multiple:
        return None
    lines += calculation.steps(right, "/", multiple)
    return "\n".join([*lines, f"{name} = {right // multiple}"])


def _product(multiple: int, name: str) -> str:
    return {1: name, -1: f"-{name}"}.get(multiple, f"{multiple}*{name}")
