"""Expressions as trees, and two ways to write them, for the tests of readers and judges."""

from longjing.problems.expression import Written, join, number

# A tree is an integer or (left, operator, right).
Tree = int | tuple["Tree", str, "Tree"]


def written(tree: Tree) -> Written:
    return number(tree) if isinstance(tree, int) else join(written(tree[0]), tree[1], written(tree[2]))


def fully_wrapped(tree: Tree) -> str:
    if isinstance(tree, int):
        return f"({tree})"
    return f"({fully_wrapped(tree[0])} {tree[1]} {fully_wrapped(tree[2])})"


def literals(tree: Tree) -> list[int]:
    return [abs(tree)] if isinstance(tree, int) else literals(tree[0]) + literals(tree[2])
