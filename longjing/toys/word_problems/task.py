"""Word problems: a short story with one to six steps of arithmetic (the stories are in `stories.yaml`)."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AliasChoices, Field, model_validator

from longjing.problems import GeneratedTask, Language, ProblemData, TaskSettings
from longjing.problems.expression import parse_number
from longjing.toys.prose import read_difficulties
from longjing.toys.word_problems.stories import CONNECTIVES, PEOPLE, STORIES, PartTemplate, Story

LIMIT = 1000  # no value exceeds it

Operation = Literal["+", "-", "*", "/"]
_AT_START: dict[str, Operation] = {"=+": "+", "=-": "-", "=*": "*"}
_APPLY: dict[Operation, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if b and a % b == 0 else -1,  # -1: uneven, which no story contains
}


class WordProblemsSettings(TaskSettings):
    """How many `steps` of arithmetic, and the `largest` number that a story mentions."""

    difficulties: ClassVar = read_difficulties(__file__)

    steps: int = Field(ge=1, le=6)
    largest: int = Field(ge=10, le=LIMIT)


class ArithmeticStep(ProblemData):
    """One operation of the solution: `left operation right = result`."""

    operation: Operation
    left: int
    right: int
    result: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _true(self) -> Self:
        if _APPLY[self.operation](self.left, self.right) != self.result:
            raise ValueError(f"{self.left} {self.operation} {self.right} is not {self.result}")
        return self


class ChosenPart(ProblemData):
    """A part of the story (its place among the openings, events or endings) with its numbers."""

    part: int
    a: int
    b: int


class WordProblemsData(ProblemData):
    """`parts`: the opening, the events, the ending. The answer is the result of the last of the `steps`."""

    story: str
    parts: Annotated[
        list[ChosenPart],
        Field(min_length=2, validation_alias=AliasChoices("told", "parts"), serialization_alias="told"),
    ]
    steps: Annotated[list[ArithmeticStep], Field(min_length=1)]


class WordProblems(GeneratedTask[WordProblemsSettings, WordProblemsData]):
    """Which number does the story end with?"""

    name = "word-problems"
    settings_type = WordProblemsSettings
    data_type = WordProblemsData

    def draw(self, random: Random) -> WordProblemsData | None:
        name = random.choice(list(STORIES))
        story = STORIES[name]
        plan = _plan(random, story, self.options.steps)
        if plan is None:
            return None
        parts: list[ChosenPart] = []
        steps: list[ArithmeticStep] = []
        amount = 0
        for index, part in plan:
            numbers = _numbers(random, part.kind, amount, self.options.largest)
            if numbers is None:
                return None
            a, b = numbers
            parts.append(ChosenPart(part=index, a=a, b=b))
            for operation, left, right in _arithmetic(part.kind, amount, a, b):
                result = _APPLY[operation](left, right)
                if result > LIMIT:
                    return None
                steps.append(ArithmeticStep(operation=operation, left=left, right=right, result=result))
            amount = steps[-1].result if steps else a
        return WordProblemsData(story=name, parts=parts, steps=steps)

    def key(self, data: WordProblemsData) -> str:
        return f"{data.story} {[(part.part, part.a, part.b) for part in data.parts]}"

    def answer(self, data: WordProblemsData) -> str:
        return str(data.steps[-1].result)

    def prompt(self, data: WordProblemsData, language: Language, random: Random) -> str:
        story = STORIES[data.story]
        person = random.choice(PEOPLE[language])
        other = random.choice([someone for someone in PEOPLE[language] if someone.he != person.he])
        noun = random.choice(story.nouns)
        words = {
            **person.model_dump(),
            "other": other.name,
            "noun": noun.many if language == "en" else noun.zh,
            "one": noun.one,
            "m": noun.measure,
        }

        def tell(part: PartTemplate, chosen: ChosenPart) -> str:
            times = _TIMES.get(chosen.a, f"{chosen.a} times")
            return part[language].format(a=chosen.a, b=chosen.b, times=times, **words)

        first, *events, last = data.parts
        sentences = [tell(story.openings[first.part], first)]
        for event in events:
            connective = random.choice(CONNECTIVES[language])
            sentences.append(connective + tell(story.events[event.part], event) + _STOP[language])
        sentences.append(tell(story.endings[last.part], last))
        return (" " if language == "en" else "").join(s[0].upper() + s[1:] for s in sentences)

    def mistake(self, data: WordProblemsData, answer: str) -> str | None:
        return None if parse_number(answer) == data.steps[-1].result else "not the number that is asked for"


def _plan(random: Random, story: Story, steps: int) -> list[tuple[int, PartTemplate]] | None:
    """An opening, events (none twice) and an ending with just so many steps in all, or None."""
    opening = random.choice(list(enumerate(story.openings)))
    ending = random.choice(list(enumerate(story.endings)))
    left = steps - _cost(opening[1]) - _cost(ending[1])
    events: list[tuple[int, PartTemplate]] = []
    for event in random.sample(list(enumerate(story.events)), len(story.events)):
        if _cost(event[1]) <= left:
            events.append(event)
            left -= _cost(event[1])
    return None if left else [opening, *events, ending]


def _cost(part: PartTemplate) -> int:
    return len(_arithmetic(part.kind, 0, 0, 0))


def _arithmetic(kind: str, n: int, a: int, b: int) -> list[tuple[Operation, int, int]]:
    """What a part of this kind does to the amount `n`, as operations."""
    match kind:
        case "=" | "":
            return []
        case "from":
            return [("-", a, n)]
        case "+" | "-" | "*" | "/":
            return [(kind, n, a)]
        case "+*" | "-*":
            return [("*", a, b), ("+" if kind == "+*" else "-", n, a * b)]
        case "=+" | "=-" | "=*":
            return [(_AT_START[kind], a, b)]
    raise ValueError(f"no part of a story is of the kind {kind!r}")


def _numbers(random: Random, kind: str, n: int, largest: int) -> tuple[int, int] | None:
    """Numbers from 2 up for a part of this kind that keep every amount above zero; None if there are none."""
    most = n - 1 if kind[:1] == "-" else largest
    match kind:
        case "":
            return 0, 0
        case "=+":
            return random.randint(2, largest), random.randint(2, largest)
        case "=-":
            a = random.randint(4, largest)
            return a, random.randint(2, a - 1)
        case "=*" | "+*" | "-*":  # a groups of b
            if most < 4:
                return None
            a = random.randint(2, min(10, most // 2))
            return a, random.randint(2, min(12, most // a))
        case "/":
            choices: Sequence[int] = [d for d in range(2, 13) if n % d == 0 and n > d]
        case "*":
            choices = range(2, 5)
        case "from":
            choices = range(n + 1, min(n + largest, LIMIT) + 1)
        case _:
            choices = range(2, min(most, largest) + 1)
    return (random.choice(choices), 0) if choices else None


_STOP: dict[Language, str] = {"en": ".", "zh": "。"}
_TIMES = {2: "twice", 3: "three times", 4: "four times"}
