"""Tasks whose problems are drawn at random: a subclass draws, words, solves and checks one problem."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import count
from random import Random
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from longjing.problems.answer import boxed, format_reward
from longjing.problems.expression import ExpressionError
from longjing.problems.problem import Completion, Language, Problem, Verdict
from longjing.problems.splits import Split, split_of
from longjing.problems.task import NoProblems
from longjing.validation import Strict

PLAIN = "{prompt}"
_PATIENCE = 200_000  # draws in a row without a new problem, after which a split counts as exhausted
_CHINESE_SHARE = 0.3  # of the problems when `language` is "mixed"


class TaskSettings(Strict):
    """The settings of a task: `difficulty` sets the defaults of the others."""

    difficulties: ClassVar[Mapping[int, Mapping[str, Any]]]
    """The defaults at each difficulty."""
    judge_settings: ClassVar[frozenset[str]] = frozenset()
    """The settings that say how answers are judged, and nothing about which problems are drawn."""

    difficulty: int = Field(default=2, ge=1, le=5)
    language: Literal["en", "zh", "mixed"] = "mixed"
    template: str = Field(default=PLAIN, description="what is asked, with the gap {prompt}")

    @field_validator("template")
    @classmethod
    def _asks(cls, template: str) -> str:
        if PLAIN not in template:
            raise ValueError("has no gap {prompt}")
        return template

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        difficulty = values.get("difficulty", cls.model_fields["difficulty"].default)
        # An impossible difficulty gets its own message; any defaults keep other complaints from joining it.
        return {**cls.difficulties[difficulty if difficulty in range(1, 6) else 1], **values}


class ProblemData(Strict):
    """What the verifier of a task needs to know about a problem; corrupt data can't be built."""


S = TypeVar("S", bound=TaskSettings)
D = TypeVar("D", bound=ProblemData)


class GeneratedTask(ABC, Generic[S, D]):
    """A `Task` of problems without end: a subclass draws, solves, words and checks one problem."""

    name: ClassVar[str]
    settings_type: ClassVar[type[TaskSettings]]
    data_type: ClassVar[type[ProblemData]]

    def __init__(self, settings: S) -> None:
        self.options = settings

    @property
    def settings(self) -> dict[str, Any]:
        settings = self.options.model_dump(mode="json")
        return {key: value for key, value in settings.items() if (key, value) != ("template", PLAIN)}

    @property
    def judge_settings(self) -> frozenset[str]:
        return self.options.judge_settings

    @abstractmethod
    def draw(self, random: Random) -> D | None:
        """One candidate, or None for a draw that led nowhere."""

    @abstractmethod
    def key(self, data: D) -> str:
        """The canonical key: equal for problems that differ only in form."""

    def split_key(self, data: D) -> str | None:
        """What decides about the split instead of the key, None if nothing does: all problems that share it are in
        one split."""
        return None

    @abstractmethod
    def answer(self, data: D) -> str | None:
        """A correct answer, or None if the problem has none (it is then dropped)."""

    @abstractmethod
    def prompt(self, data: D, language: Language, random: Random) -> str:
        """The problem in words."""

    @abstractmethod
    def mistake(self, data: D, answer: str) -> str | None:
        """What is wrong with a boxed answer, None if nothing is. An ExpressionError is a mistake, too."""

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """The problems of a split, without end (see `Task`). Raises NoProblems if these settings admit none in this
        split."""
        # How answers are judged, and questions framed, must not change which problems are drawn.
        others = {*self.judge_settings, "template"}
        drawing = {key: value for key, value in self.settings.items() if key not in others}
        random = Random(json.dumps([self.name, drawing, split, seed], sort_keys=True))
        seen: set[str] = set()
        latest = 0  # the draw that gave the latest problem
        for draw in count(1):
            if draw - latest > _PATIENCE:
                if latest:
                    return
                raise NoProblems(
                    f"task {self.name!r} has no {split} problems with the settings {self.settings}; "
                    "allow more or larger numbers"
                )
            data = self.draw(random)
            if data is None:
                continue
            key = f"{self.name} {self.key(data)}"
            if split_of(self.split_key(data) or key) != split:
                continue
            id = blake2b(key.encode(), digest_size=12).hexdigest()
            if id in seen:
                continue
            answer = self.answer(data)  # last of all, since a solver is slower than all checks before
            if answer is None:
                continue
            if split != "train":
                seen.add(id)
            latest = draw
            language = self.options.language
            if language == "mixed":
                language = "zh" if random.random() < _CHINESE_SHARE else "en"
            prompt = self.options.template.replace(PLAIN, self.prompt(data, language, random))
            yield Problem(self.name, id, prompt, answer, data.model_dump(by_alias=True), language)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """The verdict on a completion (see `Task`). A truncated completion is wrong: what it would have said next,
        nobody knows."""
        format = format_reward(completion)
        try:
            data = self._read(problem)
        except ValidationError as error:
            return Verdict("unjudged", {"accuracy": 0.0, "format": format}, f"corrupt problem data: {error}")
        mistake = self._mistake(data, completion)
        rewards = {"accuracy": float(mistake is None), "format": format}
        return Verdict("wrong" if mistake else "correct", rewards, mistake or "correct")

    def solve(self, problem: Problem) -> str:
        """The answer that is held right (see `Task`). Raises ValueError if the problem's data is corrupt or has no
        solution."""
        answer = self.answer(self._read(problem))
        if answer is None:
            raise ValueError(f"{self.name} problem {problem.id} has no solution: {problem.data}")
        return answer

    def wants_box(self, problem: Problem) -> bool:
        """See `problems.wants_box`."""
        return True

    def _read(self, problem: Problem) -> D:
        return self.data_type.model_validate(problem.data)  # type: ignore[return-value]

    def _mistake(self, data: D, completion: Completion) -> str | None:
        if completion.truncated:
            return "truncated"
        box = boxed(completion.answer)
        if box is None:
            return "the answer does not hold exactly one \\boxed{...}"
        if not box:
            return "the box is empty"
        try:
            return self.mistake(data, box)
        except ExpressionError as error:
            return str(error)
