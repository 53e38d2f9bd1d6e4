"""Practice: calculations of all sizes, worked out in full by somebody who never slips.

A drill says what single steps come to; this says how they follow from each other, with numbers longer than most
problems have. Like a drill it answers nobody's question, so it can stand beside a model's own samples
(`curation.py`) without telling it how to solve a problem.
"""

from random import Random

from longjing.toys.arithmetic.corpus import Solver
from longjing.toys.corpus.document import Document
from longjing.toys.corpus.drill import SAYINGS

_LINES = (4, 10)  # in one document


def write(random: Random) -> Document:
    """One column of calculations; nothing was asked, so nothing stands in a box."""
    language = "zh" if random.random() < 0.3 else "en"
    solver = Solver(language, random)
    solver.slip = 0.0
    for _ in range(random.randint(*_LINES)):
        solver.calculate(*_operation(random))
    sayings, done = SAYINGS[language]
    return Document(random.choice(sayings), "\n".join(solver.lines), done, "practice")


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
