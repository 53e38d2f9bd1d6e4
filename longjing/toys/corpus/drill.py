"""Drills: columns of single steps, all of them right, as pupils write them to learn the tables.

Solutions say little about each sum and much about everything else; a drill is nothing but sums. What can't be
calculated can't be found by reinforcement either: a reward says that a sum was wrong, not what it should be.
"""

from random import Random

from longjing.toys.arithmetic.corpus import claim
from longjing.toys.corpus.document import Document

SAYINGS = {
    "en": (["Practise sums.", "Do a drill.", "Write some sums."], "Done."),
    "zh": (["练习计算。", "做口算练习。", "写一些算式。"], "好了。"),
}
_STEPS = (12, 30)  # in one drill


def write(random: Random) -> Document:
    """One drill; nothing was asked, so nothing stands in a box."""
    sayings, done = SAYINGS["zh" if random.random() < 0.3 else "en"]
    steps = [_step(random) for _ in range(random.randint(*_STEPS))]
    return Document(random.choice(sayings), random.choice(["\n", ", "]).join(steps), done, "drill")


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
