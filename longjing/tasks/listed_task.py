"""A task whose problems are listed, each with its right answer, and judged by a verifier: rows of a file, or of Python.

from longjing.tasks import ListedTask

class Squares(ListedTask):
    name = "squares"
    verifier = "number"

    def rows(self):
        for number in range(1, 1000):
            yield {"prompt": f"What is {number} times {number}?", "answer": number * number}
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from random import Random
from typing import Any, ClassVar

from pydantic import Field, field_validator

from longjing.errors import UserError
from longjing.problems import Completion, NoProblems, Problem, Split, Verdict, split_of
from longjing.tasks.row_files import LocatedRow, cell_text
from longjing.validation import Strict
from longjing.verifiers import Rubric, RubricSpec, Verifier


class ListedSettings(Strict):
    """What every task of rows may be told."""

    verifier: str | dict[str, float | dict[str, Any]] | None = Field(
        None, description="how answers are judged: a name, or by name a weight or settings"
    )
    template: str = Field("{prompt}", description="what is asked, with the gap {prompt}")
    language: str = Field("en", description="of the prompts, its ISO 639-1 code")

    @field_validator("template")
    @classmethod
    def _asks(cls, template: str) -> str:
        if "{prompt}" not in template:
            raise ValueError("has no gap {prompt}")
        return template


class ListedTask(ABC):
    """A `Task` of a list of problems. A subclass gives a `name`, the `rows` and how they are judged.

    `verifier`: what `Rubric` takes, or a `Verifier` of one's own. A problem's split follows from the hash of its
    prompt, whatever list it stands in. Raises UserError for a row that is no problem, naming its place.
    """

    name: str = ""
    settings_type: ClassVar[type[ListedSettings]] = ListedSettings
    verifier: RubricSpec | Verifier[Any] | None = None

    def __init__(self, settings: ListedSettings) -> None:
        self.options = settings
        self.name = self.name or type(self).__name__
        verifier = self.verifier if settings.verifier is None else settings.verifier
        if verifier is None:
            raise UserError(f"task {self.name!r}: say how answers are judged, for example verifier=math")
        self.rubric = Rubric.single(verifier.name, verifier) if isinstance(verifier, Verifier) else Rubric(verifier)
        self._problems = self._listed()

    @abstractmethod
    def rows(self) -> Iterable[Mapping[str, Any]]:
        """Problems: a `prompt` and its `answer` (which may be left out if the verifier needs none), and whatever else
        the verifier reads in `Problem.data`."""

    @property
    def settings(self) -> dict[str, Any]:
        options = self.options.model_dump(mode="json")
        if not self.options.verifier and not isinstance(self.verifier, Verifier):
            options["verifier"] = self.verifier
        return options

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """The rows of a split as problems (see `Task`). Raises NoProblems if no row belongs to the split."""
        problems = [problem for problem, home in self._problems if home == split]
        if not problems:
            raise NoProblems(
                f"task {self.name!r} has no {split} problems: of its {len(self._problems)} prompts none hashes to "
                "that split, which takes one in twenty (train: nine in ten); give more"
            )
        random = Random(f"{self.name} {split} {seed}")
        while True:
            random.shuffle(problems)
            yield from problems
            if split != "train":
                return

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        return self.rubric.judge(problem, completion)

    def wants_box(self, problem: Problem) -> bool:
        """See `problems.wants_box`."""
        return self.rubric.wants_box

    def solve(self, problem: Problem) -> str:
        """The answer that the list gives."""
        return problem.answer

    def located_rows(self) -> Iterable[LocatedRow]:
        """The rows, each with the place that a message names."""
        return ((f"row {number}", dict(row)) for number, row in enumerate(self.rows(), 1))

    def _listed(self) -> list[tuple[Problem, Split]]:
        firsts: dict[str, tuple[str, Problem]] = {}
        for location, row in self.located_rows():
            problem = self.problem(location, row)
            first_location, earlier = firsts.setdefault(problem.id, (location, problem))
            if earlier.answer != problem.answer:
                raise UserError(
                    f"{self.name}, {location}: the prompt of {first_location} again, but with another answer: "
                    f"{problem.answer[:60]!r}, not {earlier.answer[:60]!r}"
                )
        return [(problem, split_of(f"listed {problem.id}")) for _, problem in firsts.values()]

    def problem(self, location: str, row: Mapping[str, Any]) -> Problem:
        """The problem that a row of `located_rows` is. Raises UserError if it is none."""
        row = dict(row)
        prompt, answer = (cell_text(row.pop(column, None)) for column in ("prompt", "answer"))
        if not prompt.strip() or (self.rubric.needs_answer and not answer.strip()):
            missing = "answer" if prompt.strip() else "prompt"
            raise UserError(f"{self.name}, {location}: no {missing}")
        # The key isn't the list's: the same question in two files is one problem, in one split.
        key = " ".join(prompt.split()).casefold()
        id = blake2b(f"listed {key}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        question = self.options.template.replace("{prompt}", prompt)
        data = json.loads(json.dumps(row, default=str))
        return Problem(self.name, id, question, answer.strip(), data, self.options.language)
