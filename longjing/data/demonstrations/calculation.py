"""One operation on whole numbers, written so that a small model can follow it."""

_OPERATORS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


def apply(left: int, operator: str, right: int) -> int | None:
    """The result; None for a division that leaves a rest."""
    if operator == "/" and (right == 0 or left % right):
        return None
    return _OPERATORS[operator](left, right)


def steps(left: int, operator: str, right: int) -> list[str]:
    """Lines that lead to the result. A product of two long numbers is taken apart by the digits of the shorter one; a
    quotient is found digit by digit."""
    result = apply(left, operator, right)
    whole = f"{left} {operator} {right} = {result}"
    if operator == "*" and min(abs(left), abs(right)) > 12:
        return [*_product(abs(left), abs(right)), *([whole] if left < 0 or right < 0 else [])]
    if operator == "/" and min(abs(left) // abs(right), abs(right)) > 12:
        return [*_quotient(abs(left), abs(right)), whole]
    return [whole]


def _product(left: int, right: int) -> list[str]:
    parts = _places(min(left, right))
    other, whole = max(left, right), f"{left} * {right}"
    if len(parts) == 1:
        return [f"{whole} = {left * right}"]
    products = " + ".join(f"{other} * {part}" for part in parts)
    return [f"{whole} = {products} = {' + '.join(str(other * part) for part in parts)} = {left * right}"]


def _quotient(left: int, right: int) -> list[str]:
    lines, rest = [], left
    for part in _places(left // right):
        lines.append(f"{right} * {part} = {right * part}, {rest} - {right * part} = {rest - right * part}")
        rest -= right * part
    return lines


def _places(number: int) -> list[int]:
    """345 as 300, 40, 5."""
    digits = str(number)
    return [int(digit) * 10 ** (len(digits) - 1 - place) for place, digit in enumerate(digits) if digit != "0"]
