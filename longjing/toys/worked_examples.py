"""Worked examples: what people ask first, and a model that has read the base's corpus seldom solves.

Rejection sampling passes on what a model can do. The shipped base has read no Countdown with two numbers and hardly a
sum of many terms from left to right, so little or nothing would be kept of them. Every step here is right.
"""

from random import Random

from longjing.problems import Completion, Problem, boxed
from longjing.problems.language import share
from longjing.toys.answer_sentences import answer_sentence
from longjing.toys.arithmetic.corpus import write_solution
from longjing.toys.arithmetic.task import Arithmetic, ArithmeticData, ArithmeticSettings
from longjing.toys.countdown.corpus import PHRASES, equation
from longjing.toys.countdown.task import Countdown, CountdownSettings, moves
from longjing.toys.toy import Document, register_documents

_PAIRS = [
    Countdown(CountdownSettings.model_validate({"difficulty": 1, "largest": largest, "largest_target": 1000}))
    for largest in (12, 20, 99)
]
_TERMS = (3, 6)


class _Sums(Arithmetic):
    """Three to six numbers of one or two digits, added and subtracted from left to right."""

    def draw(self, random: Random) -> ArithmeticData:
        numbers = [random.randint(1, random.choice([9, 20, 99])) for _ in range(random.randint(*_TERMS))]
        signs = ["", *random.choices("++-", k=len(numbers) - 1)]
        expression = "".join(f"{sign}{number}" for sign, number in zip(signs, numbers, strict=True))
        return ArithmeticData(expression=expression)


SUMS = _Sums(ArithmeticSettings.model_validate({}))


def write_worked(random: Random) -> Document:
    """A training problem, worked out, with its answer in a sentence."""
    seed = random.getrandbits(32)
    if random.random() < 0.4:
        return _pair(next(random.choice(_PAIRS).problems("train", seed)), random)
    problem = next(SUMS.problems("train", seed))
    while True:  # until somebody neither guesses nor slips nor mixes languages
        solution = write_solution(problem, random)
        if _is_exemplary(solution, problem):
            break
    answer = answer_sentence(problem, boxed(solution.answer) or "", random)
    return Document(problem.prompt, solution.reasoning, answer, "worked", problem=problem)


def _pair(problem: Problem, random: Random) -> Document:
    """All that two numbers make, one after the other, until it is the target."""
    phrases, target = PHRASES[problem.language], problem.data["target"]
    lines = [random.choice(phrases.search)]
    for step in moves(*problem.data["numbers"]):
        hit = step.result == target
        lines.append(f"{equation(step)} vs {target} {phrases.hit if hit else phrases.miss}")
        if hit:
            break
    expression = f"{step.left}{step.operator}{step.right}"
    lines.append(random.choice(phrases.solved).format(expression))
    answer = answer_sentence(problem, expression, random)
    return Document(problem.prompt, "\n".join(lines), answer, "worked", problem=problem)


def _is_exemplary(solution: Document, problem: Problem) -> bool:
    """Whether it is calculated in steps, in one language, and right."""
    completion = Completion(solution.reasoning, solution.answer, closed=True, well_formed=True, truncated=False)
    return (
        solution.style == "steps"
        and share(solution.reasoning, problem.language) == 1
        and SUMS.judge(problem, completion).outcome == "correct"
    )


register_documents("worked", write_worked)
