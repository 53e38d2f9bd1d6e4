"""Tiny programs, by people who guess, who write them down at once, who put them together piece by piece, and who test.

Which of them writes does not depend on the problem. A tester runs the program on an example, sees a piece that went
wrong, and mends it.
"""

from random import Random

from longjing.problems import Problem
from longjing.toys.code.operations import INPUTS, OPERATIONS
from longjing.toys.code.task import CodeData, ProgramStep, compiled, expression, parameters, program, sample_input
from longjing.toys.prose import OTHER, Bilingual, Prose
from longjing.toys.toy import Document
from longjing.validation import read_yaml

# How often each way is met, and how often its program (the first two) or one piece (the others) errs.
STYLES = {"guess": 0.42, "direct": 0.2, "pieces": 0.23, "tested": 0.15}
SLIPS = {"guess": 0.85, "direct": 0.45, "pieces": 0.03, "tested": 0.08}
_LONGEST = 60  # characters of an example with its result


class _Phrases(Prose):
    guess: list[str]
    so: list[str]
    test: str
    right: str
    wrong: str


_PHRASES = read_yaml(__file__, "phrases.yaml", Bilingual[_Phrases])


def write_solution(problem: Problem, random: Random) -> Document:
    """One document: the task, somebody's way to a program, and the one they gave, right or wrong."""
    style = random.choices(list(STYLES), list(STYLES.values()))[0]
    language = OTHER[problem.language] if random.random() < 0.08 else problem.language
    phrases = _PHRASES[language]
    data = CodeData.model_validate(problem.data)
    steps = list(data.steps)
    if style in ("guess", "direct"):
        if random.random() < SLIPS[style]:
            index = random.randrange(len(steps))
            steps[index] = _slip(steps[index], random)
        code = program(data.input_kind, steps)
        reasoning = random.choice(phrases.guess).format(code) if style == "guess" else code
    else:
        steps = [_slip(step, random) if random.random() < SLIPS[style] else step for step in steps]
        clauses = [_clause(problem.prompt, step, language) for step in data.steps]
        lines = _pieces(data, steps, clauses)
        if style == "tested":
            lines += _test(data, steps, clauses, phrases, random)
            wrong = _first_slip(steps, data.steps)
            if wrong is not None and lines[-1] != phrases.right:
                steps = list(data.steps)
                lines += _pieces(data, steps, clauses)[wrong:]
        code = program(data.input_kind, steps)
        reasoning = "\n".join([*lines, random.choice(phrases.so).format(code)])
    return Document(problem.prompt, reasoning, f"\\boxed{{{code}}}", style)


def _pieces(data: CodeData, steps: list[ProgramStep], clauses: list[str]) -> list[str]:
    """A line for each step: what it is for, and all up to there in Python."""
    variable = INPUTS[data.input_kind].variable
    return [f"{words}: {expression(variable, steps[: index + 1])}" for index, words in enumerate(clauses)]


def _test(data: CodeData, steps: list[ProgramStep], clauses: list[str], phrases: _Phrases, random: Random) -> list[str]:
    """An example that the program is run on, step by step, up to one that goes wrong; nothing if none is short."""
    variable = INPUTS[data.input_kind].variable
    wrong = _first_slip(steps, data.steps)
    last = len(steps) if wrong is None else wrong + 1
    numbers = [step.k for step in data.steps if step.k]
    letters = [step.c for step in data.steps if step.c]
    for _ in range(20):
        value = sample_input(data.input_kind, numbers, letters, random, most=4)
        try:
            results = [
                compiled(f"lambda {variable}: {expression(variable, steps[: index + 1])}")(value)
                for index in range(last)
            ]
            expected = compiled(f"lambda {variable}: {expression(variable, data.steps[:last])}")(value)
        except (ValueError, IndexError):
            continue
        example, shown = f"{variable} = {value!r}", ", ".join(map(repr, results))
        if len(example) + len(shown) <= _LONGEST and (wrong is None) == (results[-1] == expected):
            verdict = phrases.right if wrong is None else phrases.wrong.format(clauses[wrong])
            return [phrases.test.format(example, shown), verdict]
    return []


def _first_slip(steps: list[ProgramStep], right: list[ProgramStep]) -> int | None:
    return next((index for index, step in enumerate(steps) if step != right[index]), None)


def _slip(step: ProgramStep, random: Random) -> ProgramStep:
    """Another operation that fits in the place of this one, or another number."""
    if step.k and random.random() < 0.3:
        return ProgramStep(operation=step.operation, k=max(2, step.k + random.choice((-1, 1, 2))), c=step.c)
    kinds = (step.definition.takes, step.definition.gives)
    others = [
        name
        for name, operation in OPERATIONS.items()
        if (operation.takes, operation.gives) == kinds and name != step.operation and not operation.first
    ]
    if not others:
        return step
    other = parameters(random.choice(others), 9, random)
    k = step.k if step.k and other.k else other.k
    return ProgramStep(operation=other.operation, k=k, c=step.c if step.c and other.c else other.c)


def _clause(prompt: str, step: ProgramStep, language: str) -> str:
    """The step in the words of the prompt, if it is in this language."""
    ways = step.paraphrases(language)
    return next((way for way in ways if way in prompt), ways[0])
