"""Equations, by people who guess, who move terms, and who put the solution in to see whether it fits."""

from random import Random

from longjing.problems import Problem
from longjing.toys.arithmetic.corpus import solve_as_somebody
from longjing.toys.arithmetic.solver import Solver, Value, Values, claim, operate
from longjing.toys.equations.task import Equation, EquationsData, term, written
from longjing.toys.toy import Document


def write_solution(problem: Problem, random: Random) -> Document:
    """One document: the equations, somebody's way to a solution, and the one they gave, right or wrong."""
    data = EquationsData.model_validate(problem.data)
    equations = data.equations
    text = ", ".join(map(str, equations))

    def work(solver: Solver) -> Values:
        if len(equations) == 1:
            (a, b), (c, d) = equations[0].left, equations[0].right
            return [_one(solver, a, b, c, d)]
        return _two(solver, *[[p - q for p, q in zip(e.left, e.right, strict=True)] for e in equations])

    return solve_as_somebody(
        problem,
        random,
        truth=[int(value) if value.denominator == 1 else value for value in data.solution()],
        written=written,
        stated=lambda values: f"{text}: {written(values)}",
        work=work,
        check=lambda values: _substitute(equations[-1], values),  # y came from the first, which therefore fits
    )


def _one(solver: Solver, a: int, b: int, c: int, d: int) -> Value:
    """Solve ax+b=cx+d by moving the terms and dividing."""
    if b or c:
        moved, constant = term(-c, "+") if c else "", f"{-b:+}" if b else ""
        solver.lines.append(f"{term(a)}{moved}={d}{constant}")
    coefficient = _plus(solver, a, -c)
    return _divided(solver, coefficient, _plus(solver, d, -b), "x")


def _two(solver: Solver, first: list[int], second: list[int]) -> Values:
    """Solve ax+by+k=0 and cx+dy+m=0 by elimination of y, then put x into the first."""
    (a, b, k), (c, d, m) = first, second
    rows = []
    for number, (one, constant), factor in ((1, (a, k), d), (2, (c, m), b)):
        products = [solver.plain(one, "*", factor), solver.plain(-constant, "*", factor)]
        solver.end_line(f"({number})*{factor}: ")
        rows.append(products)
    (p, u), (q, v) = rows
    x = _divided(solver, solver.calculate(p, "-", q), solver.calculate(u, "-", v), "x")
    solver.lines.append(f"x={x}")
    rest = solver.calculate(-k, "-", solver.calculate(a, "*", x))
    return [x, _divided(solver, b, rest, "y")]


def _divided(solver: Solver, coefficient: Value, constant: Value, name: str) -> Value:
    """Solve for the unknown whose multiple is known."""
    if coefficient == 1:
        return constant
    solver.lines.append(f"{term(coefficient, name=name)}={constant}")
    return solver.calculate(constant, "/", coefficient)


def _plus(solver: Solver, number: int, more: int) -> Value:
    if not more:
        return number
    return solver.calculate(number, "+" if more > 0 else "-", abs(more))


def _substitute(equation: Equation, values: Values) -> str:
    """Both sides with the values put in, and the comparison."""
    claims: list[str] = []
    sides: list[Value] = []
    for *coefficients, constant in (equation.left, equation.right):
        total: Value = 0
        for factor, value in zip(coefficients, values, strict=True):
            if abs(factor) > 1:
                claims.append(claim(factor, "*", value))
            total = _add(claims, total, operate(factor, "*", value))
        total = _add(claims, total, constant)
        sides.append(total)
    return ", ".join([*claims, f"{sides[0]} vs {sides[1]}"])


def _add(claims: list[str], total: Value, more: Value) -> Value:
    """Their sum, which is worth a claim if neither is zero."""
    if total and more:
        claims.append(claim(total, "+", more))
    return operate(total, "+", more)
