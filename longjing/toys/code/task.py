"""Code: a Python program of one line, described in words, that has to pass tests nobody shows it.

Problems are compositions of `operations`: keep the even numbers, then double each, then add them up. Their tests follow
from the problem alone; programs run in the sandbox, and what they return is compared here.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Annotated, Any, ClassVar, Self

from pydantic import AliasChoices, Field, model_validator

from longjing.problems import (
    Completion,
    GeneratedTask,
    Language,
    Problem,
    ProblemData,
    Split,
    TaskSettings,
    Verdict,
    format_reward,
)
from longjing.sandbox import CallTest
from longjing.toys.code.operations import INPUTS, LETTERS, OPERATIONS, WORDS, Kind, Operation
from longjing.toys.prose import Wording, read_difficulties
from longjing.validation import read_yaml
from longjing.verifiers.code_execution import Programs, programs
from longjing.verifiers.pool import VerifierError

_WORDING = read_yaml(__file__, "prompts.yaml", Wording)
LONGEST = 500  # characters of a program
TESTS = 8
_FEWEST = 5  # tests, where some inputs are none for the program
_LARGEST_VALUE = 10**9
_LONGEST_VALUE = 300  # items or characters


class CodeSettings(TaskSettings):
    """How many `steps` a program takes, whether some of them may `branch`, and the `largest` number in a text."""

    difficulties: ClassVar = read_difficulties(__file__)

    steps: int = Field(ge=1, le=6)
    branches: bool
    largest: int = Field(ge=3, le=99)


class ProgramStep(ProblemData):
    """An operation by its name, with the number and the letter that it needs (0 and "" where it needs none)."""

    operation: Annotated[str, Field(validation_alias=AliasChoices("piece", "operation"), serialization_alias="piece")]
    k: Annotated[int, Field(ge=0, le=100)] = 0
    c: Annotated[str, Field(pattern=r"^[a-z]?$")] = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        operation = OPERATIONS.get(self.operation)
        if operation is None:
            raise ValueError(f"there is no operation {self.operation!r}")
        if ("{k}" in operation.code) != (self.k > 1) or ("{c}" in operation.code) != bool(self.c):
            raise ValueError(f"the operation {self.operation!r} has the wrong parameters")
        return self

    @property
    def definition(self) -> Operation:
        """What the operation is."""
        return OPERATIONS[self.operation]

    def paraphrases(self, language: str) -> list[str]:
        """The ways to say what it does."""
        return [wording.format(k=self.k, c=self.c) for wording in self.definition[language]]


class CodeData(ProblemData):
    """What the program is given, and the steps from there to what it returns."""

    input_kind: Annotated[
        Kind, Field(validation_alias=AliasChoices("given", "input_kind"), serialization_alias="given")
    ]
    steps: Annotated[list[ProgramStep], Field(min_length=1, max_length=6)]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.input_kind not in INPUTS or not fits(self.input_kind, self.steps):
            raise ValueError("the steps don't fit together")
        return self


class Code(GeneratedTask[CodeSettings, CodeData]):
    """Which program of one line does this?"""

    name = "code"
    settings_type = CodeSettings
    data_type = CodeData

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """The problems of a split (see `Task`). Held-out problems are there to be judged: where programs can't run,
        that is said before anything else is done with them. Raises UserError then."""
        if split != "train":
            self._programs()
        return super().problems(split, seed)

    def draw(self, random: Random) -> CodeData | None:
        input_kind: Kind = random.choices(list(INPUTS), [3, 1, 2])[0]
        steps: list[ProgramStep] = []
        kind = input_kind
        for index in range(self.options.steps):
            last = index + 1 == self.options.steps
            fitting = [
                name
                for name, operation in OPERATIONS.items()
                if operation.takes == kind
                and all(name != step.operation for step in steps)
                and (index == 0 or not operation.first)
                and (self.options.branches or not operation.branch)
                and (last or operation.gives != "truth")
            ]
            step = parameters(random.choice(fitting), self.options.largest, random)
            steps.append(step)
            kind = step.definition.gives
        return CodeData(input_kind=input_kind, steps=steps)

    def key(self, data: CodeData) -> str:
        return f"{data.input_kind} {[(step.operation, step.k, step.c) for step in data.steps]}"

    def answer(self, data: CodeData) -> str | None:
        """The program; None as well if a step makes no difference to any test, or another number in it wouldn't."""
        code = program(data.input_kind, data.steps)
        tests = hidden_tests(code, data)
        if len(tests) < _FEWEST or len({repr(test.expected) for test in tests}) < 2:
            return None
        if any(passes(other, tests) for other in _near(data)):
            return None
        return code

    def prompt(self, data: CodeData, language: Language, random: Random) -> str:
        program_input = INPUTS[data.input_kind]
        clauses = [random.choice(step.paraphrases(language)) for step in data.steps]
        joined = (", then " if language == "en" else "，再").join(clauses)
        prompt = random.choice(_WORDING.prompts[language])
        return prompt.format(what=program_input[language], variable=program_input.variable, steps=joined)

    def mistake(self, data: CodeData, answer: str) -> str | None:
        if len(answer) > LONGEST or "\n" in answer:
            return f"not one line of at most {LONGEST} characters"
        code = f"f = {answer}" if answer.startswith("lambda") else answer
        tests = hidden_tests(program(data.input_kind, data.steps), data)
        return next((mistake for mistake in self._programs().mistakes(code, tests) if mistake), None)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """The verdict on a completion (see `Task`). Raises UserError where programs can't run at all: no isolation, no
        execution."""
        try:
            return super().judge(problem, completion)
        except VerifierError as error:
            return Verdict("unjudged", {"accuracy": 0.0, "format": format_reward(completion)}, str(error))

    def _programs(self) -> Programs:
        return programs(seconds=2.0, megabytes=256, run_seconds=2.0)


def parameters(name: str, largest: int, random: Random) -> ProgramStep:
    """The operation with whatever number and letter it needs."""
    operation = OPERATIONS[name]
    k = random.randint(2, min(largest, 5) if operation.small else largest) if "{k}" in operation.code else 0
    return ProgramStep(operation=name, k=k, c=random.choice(LETTERS) if "{c}" in operation.code else "")


def program(input_kind: Kind, steps: Sequence[ProgramStep]) -> str:
    """The steps as a lambda, one inside the other."""
    variable = INPUTS[input_kind].variable
    return f"lambda {variable}: {expression(variable, steps)}"


def expression(start: str, steps: Sequence[ProgramStep]) -> str:
    """The steps as an expression of `start`, which binds tightly."""
    value, loose = start, False
    for step in steps:
        tight = f"({value})" if loose else value
        value = step.definition.code.format(e=value, a=tight, k=step.k, c=step.c)
        loose = step.definition.loose
    return value


def fits(input_kind: Kind, steps: Sequence[ProgramStep]) -> bool:
    """Whether each step takes what the one before gives."""
    kind = input_kind
    for index, step in enumerate(steps):
        if step.definition.takes != kind or (step.definition.first and index):
            return False
        kind = step.definition.gives
    return True


def hidden_tests(code: str, data: CodeData) -> tuple[CallTest, ...]:
    """Up to `TESTS` inputs that the program is made for, with what it returns; the same ones every time."""
    numbers = tuple(step.k for step in data.steps if step.k)
    return _tests(code, data.input_kind, numbers, tuple(step.c for step in data.steps if step.c))


@lru_cache(4096)
def _tests(code: str, input_kind: Kind, numbers: tuple[int, ...], letters: tuple[str, ...]) -> tuple[CallTest, ...]:
    random = Random(code)  # of nothing else, so that a program has the same tests in every process and run
    called = compiled(code)
    tests: dict[str, CallTest] = {}
    for _ in range(4 * TESTS):
        value = sample_input(input_kind, numbers, letters, random)
        try:
            expected = called(value)
        except (ValueError, IndexError):  # the largest of an empty list, the digits of a negative number
            continue
        if _small(expected):
            tests.setdefault(repr(value), CallTest("f", [value], expected))
    return tuple(islice(tests.values(), TESTS))


def compiled(code: str) -> Any:
    """The function that a program is. Only for what `program` wrote: a policy's program never runs here."""
    return eval(code, {})


def passes(code: str, tests: Sequence[CallTest]) -> bool:
    """Whether a program that `program` wrote passes the tests. Never for a policy's."""
    called = compiled(code)
    for test in tests:
        try:
            if repr(called(*test.arguments)) != repr(test.expected):
                return False
        except (ValueError, IndexError, TypeError):
            return False
    return True


def sample_input(
    input_kind: Kind, numbers: Sequence[int], letters: Sequence[str], random: Random, most: int = 8
) -> Any:
    """Something to try a program on, near the numbers and with the letters that it is about; a list has `most` numbers
    at most."""
    if input_kind == "number":
        return _number(numbers, random, low=0, high=60)
    if input_kind == "numbers":
        sizes = [size for size in (0, 3, 4, 5, 6, 7, 8) if size <= most]
        return [_number(numbers, random, low=-15, high=25) for _ in range(random.choice(sizes))]
    words = [random.choice(WORDS) for _ in range(random.choice((1, 1, 2, 2, 3, 4)))]
    return " ".join([*random.sample(letters, min(len(letters), random.randint(0, 1))), *words][:most])


def _number(near: Sequence[int], random: Random, low: int, high: int) -> int:
    if near and random.random() < 0.4:
        return max(low, random.choice(near) + random.choice((-1, 0, 0, 1)))
    return random.randint(low, high)


def _small(value: Any) -> bool:
    """Whether a value is worth comparing: no empty text says much, no huge one is quick."""
    if isinstance(value, str | list):
        return len(value) <= _LONGEST_VALUE and all(_small(item) for item in value if not isinstance(item, str))
    return bool(abs(value) <= _LARGEST_VALUE)


def _near(data: CodeData) -> Iterator[str]:
    """Programs that are nearly this one: without a step, with another number, in another order."""
    for index, step in enumerate(data.steps):
        variants: list[list[ProgramStep]] = [[]] if len(data.steps) > 1 else []
        if step.k:
            others = [step.k + 1] + [step.k - 1] * (step.k > 2)
            variants += [[ProgramStep(operation=step.operation, k=k, c=step.c)] for k in others]
        for variant in variants:
            steps = [*data.steps[:index], *variant, *data.steps[index + 1 :]]
            if fits(data.input_kind, steps):
                yield program(data.input_kind, steps)
