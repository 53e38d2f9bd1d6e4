"""The prose of toys, which is data: YAML files beside their code, read once (`validation.read_yaml`) and checked."""

from typing import Any, Generic, TypeVar

from longjing.problems import Language
from longjing.validation import Strict, read_yaml

T = TypeVar("T")
OTHER: dict[str, Language] = {"en": "zh", "zh": "en"}  # language


class Prose(Strict):
    """A part of a file."""


class Bilingual(Prose, Generic[T]):
    """One thing in both languages of the toys."""

    en: T
    zh: T

    def __getitem__(self, language: str) -> T:
        return {"en": self.en, "zh": self.zh}[language]


class Forms(Prose):
    """Other ways to word a task's problems and answers, where it has some.

    `short`: problems as people type them in a hurry; the gaps are those of `Toy.short_fields`. `answers`: sentences
    that state a result, whose gaps are `{box}` and the problem's data.
    """

    short: Bilingual[list[str]] | None = None
    answers: Bilingual[list[str]] | None = None


class Wording(Forms):
    """How a task's problems are worded: one of the `prompts` is taken, evenly."""

    prompts: Bilingual[list[str]]


def read_difficulties(code_file: str) -> dict[int, dict[str, Any]]:
    """The defaults of a task's settings at each difficulty, from `difficulties.yaml` beside its module."""
    return read_yaml(code_file, "difficulties.yaml", dict[int, dict[str, Any]])
