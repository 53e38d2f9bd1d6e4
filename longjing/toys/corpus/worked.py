"""Worked examples: what people ask first, and a model that has read the base's corpus seldom solves.

Rejection sampling passes on what a model can do. The shipped base has read no Countdown with two numbers and hardly a
sum of many terms from left to right, so little or nothing would be kept of them. Every step here is right.
"""

from collections.abc import Iterator
from random import Random

from longjing.problems import Completion, Problem, boxed, registry
from longjing.problems.language import share
from longjing.toys.arithmetic import corpus as arithmetic
from longjing.toys.arithmetic.task import Arithmetic, ArithmeticData, ArithmeticSettings
from longjing.toys.corpus.document import Document
from longjing.toys.countdown.corpus import PHRASES, equation, legal
from longjing.toys.readable import written_answer

_PAIRS = [
    registry.make("countdown", difficulty=1, largest=most, largest_target=1000) for most in (12, 20, 99)
]
_TERMS = (3, 6)


class _Sums(Arithmetic):
    """Three to six numbers of one or two digits, added and subtracted from left to right."""

    def draw(self, random: Random) -> ArithmeticData:
        """See `GeneratedTask`."""
        numbers = [random.randint(1, random.choice([9, 20, 99])) for _ in range(random.randint(*_TERMS))]
        signs = ["", *random.choices("++-", k=len(numbers) - 1)]
        return ArithmeticData(
            expression="".join(f"{sign}{n}" for sign, n in zip(signs, numbers, strict=True))
        )


SUMS = _Sums(ArithmeticSettings.model_validate({}))


def write(random: Random) -> Document:
    """A training problem, worked out, with its answer in a sentence."""
    seed = random.getrandbits(32)
    if random.random() < 0.4:
        return _pair(next(random.choice(_PAIRS).problems("train", seed)), random)
    problem = next(SUMS.problems("train", seed))
    found = next(one for one in _documents(problem, random) if _serves(one, problem))
    answer = written_answer(problem, boxed(found.answer) or "", random)
    return Document(problem.prompt, found.reasoning, answer, "worked", problem=problem)


def _pair(problem: Problem, random: Random) -> Document:
    """All that two numbers make, one after the other, until it is the target."""
    phrases, target = PHRASES[problem.language], problem.data["target"]
    lines = [random.choice(phrases["search"])]
    for step in legal(*problem.data["numbers"]):
        hit = step.result == target
        lines.append(f"{equation(step)} vs {target} {phrases['yes' if hit else 'no']}")
        if hit:
            break
    answer = f"{step.left}{step.operator}{step.right}"
    lines.append(random.choice(phrases["found"]).format(answer))
    return Document(
        problem.prompt, "\n".join(lines), written_answer(problem, answer, random), "worked", problem=problem
    )


def _documents(problem: Problem, random: Random) -> Iterator[Document]:
    while True:
        yield arithmetic.write(problem, random)


def _serves(found: Document, problem: Problem) -> bool:
    """Whether it is calculated in steps, in one language, and right."""
    completion = Completion(found.reasoning, found.answer, closed=True, well_formed=True, truncated=False)
    right = SUMS.judge(problem, completion).outcome == "correct"
    return right and found.style == "steps" and share(found.reasoning, problem.language) == 1
