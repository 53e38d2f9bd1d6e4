"""Exercises in arithmetic, all of them right: drills of single steps, and practice of calculations of all sizes.

Solutions say little about each sum and much about everything else; a drill is nothing but sums. What can't be
calculated can't be found by reinforcement either: a reward says that a sum was wrong, not what it should be. Practice
says how single steps follow from each other, with numbers longer than most problems have.

Neither answers anybody's question, so they can stand beside a model's own samples (rejection sampling) without telling
it how to solve a problem.
"""

from random import Random

from longjing.toys.arithmetic.solver import Solver, claim
from longjing.toys.prose import Bilingual, Prose
from longjing.toys.toy import Document
from longjing.validation import read_yaml

_STEPS = (12, 30)  # in one drill
_LINES = (4, 10)  # in one practice


class _Sayings(Prose):
    requests: list[str]
    done: str


_SAYINGS = read_yaml(__file__, "exercises.yaml", Bilingual[_Sayings])


def write_drill(random: Random) -> Document:
    """A column of single steps, as pupils write them to learn the tables; nothing was asked, so nothing stands in a
    box."""
    sayings = _SAYINGS["zh" if random.random() < 0.3 else "en"]
    steps = [_step(random) for _ in range(random.randint(*_STEPS))]
    request = random.choice(sayings.requests)
    return Document(request, random.choice(["\n", ", "]).join(steps), sayings.done, "drill")


def write_practice(random: Random) -> Document:
    """A column of calculations, worked out in full by somebody who never slips; nothing stands in a box."""
    language = "zh" if random.random() < 0.3 else "en"
    solver = Solver(language, random)
    solver.slip = 0.0
    for _ in range(random.randint(*_LINES)):
        solver.calculate(*_operation(random))
    sayings = _SAYINGS[language]
    return Document(random.choice(sayings.requests), "\n".join(solver.lines), sayings.done, "practice")


def _step(random: Random) -> str:
    """One of the steps that solutions are made of."""
    a, b = random.randint(0, 99), random.randint(0, 99)
    match random.choice(("two digits", "jump", "table", "product", "quotient", "signed")):
        case "two digits":
            return claim(a, "+", b) if random.random() < 0.4 else claim(max(a, b), "-", min(a, b))
        case "jump":
            part = random.randint(1, 9) * random.choice([1, 1, 10, 10, 100])
            number = random.randint(1, 999)
            return claim(number, "-" if part <= number and random.random() < 0.5 else "+", part)
        case "table":
            sizes = random.choice([(1, 1), (10, 1), (10, 10), (100, 1)])
            return claim(random.randint(1, 9) * sizes[0], "*", random.randint(1, 9) * sizes[1])
        case "product":
            return claim(*random.choice([(a, "*", b % 10), (a % 21, "*", b % 21)]))
        case "quotient":
            divisor, quotient = random.randint(1, 20), random.randint(0, 30)
            return claim(divisor * quotient, "/", divisor)
        case _:
            x, y, operator = random.randint(-60, 60), random.randint(-60, 60), random.choice("+-*")
            return claim(x, operator, y % 13 - 6 if operator == "*" else y)


def _operation(random: Random) -> tuple[int, str, int]:
    """Two numbers of up to four digits to add or subtract, more often of three than of one; or smaller ones."""
    a, b = (random.randrange(10 ** random.choice([1, 2, 2, 3, 3, 3, 4])) for _ in range(2))
    match random.choice("++--**/"):
        case "*":
            return a % 1000, "*", b % 100
        case "/":
            divisor = b % 100 + 1
            return divisor * (a % 100), "/", divisor
        case operator:
            return (-a if random.random() < 0.1 else a), operator, b
