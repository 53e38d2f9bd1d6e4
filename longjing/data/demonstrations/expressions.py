"""`chain_sum` and `basic_arithmetic`: one operation after the other, with what is left of the expression."""

import ast
import re

from longjing.data.demonstrations import calculation
from longjing.problems import Problem

_EXPRESSION = re.compile(
    r"(?:problem:|Calculate|What is|Solve|Compute|Evaluate:)\s+([\d(-][-+*/()\d\s]*?)\s*[=.?](?:\s|$)"
)
_OPERATORS: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_MOST = 16  # operations


def solution(problem: Problem) -> str | None:
    """The reasoning; None for an expression that isn't one of whole numbers."""
    found = _EXPRESSION.search(problem.prompt)
    if found is None:
        return None
    tree, lines = ast.parse(found[1].strip(), mode="eval").body, list[str]()
    for _ in range(_MOST):
        if not isinstance(tree, ast.BinOp | ast.UnaryOp) or _number(tree) is not None:
            break
        chain = _is_chain(tree)
        if (reduced := _reduce(tree, lines)) is None:
            return None
        tree = reduced
        if isinstance(tree, ast.BinOp) and not chain:
            lines.append(f"Left: {_written(tree)}")
    return "\n".join(lines) or f"It is {found[1].strip()}."


def _number(node: ast.expr) -> int | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        value = node.operand.value
        return -value if isinstance(value, int) else None
    return None


def _is_chain(node: ast.expr) -> bool:
    """Whether it is calculated from left to right as it stands: the next number is easily found."""
    while isinstance(node, ast.BinOp):
        if _number(node.right) is None:
            return False
        node = node.left
    return _number(node) is not None


def _reduce(node: ast.expr, lines: list[str]) -> ast.expr | None:
    """The expression after its first operation, whose steps go into `lines`; None if that can't be done."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _number(node.operand)
        if value is not None:
            lines.append(f"-({value}) = {-value}")
            return _constant(-value)
        operand = _reduce(node.operand, lines)
        return operand and ast.UnaryOp(ast.USub(), operand)
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPERATORS:
        return None
    left, right = _number(node.left), _number(node.right)
    if left is not None and right is not None:
        operator = _OPERATORS[type(node.op)]
        result = calculation.apply(left, operator, right)
        if result is None:
            return None
        lines += calculation.steps(left, operator, right)
        return _constant(result)
    if left is None:
        reduced = _reduce(node.left, lines)
        return reduced and ast.BinOp(reduced, node.op, node.right)
    reduced = _reduce(node.right, lines)
    return reduced and ast.BinOp(node.left, node.op, reduced)


def _constant(value: int) -> ast.expr:
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _written(node: ast.expr) -> str:
    return re.sub(r"(?<=\()\s|\s(?=\))", "", ast.unparse(node))
