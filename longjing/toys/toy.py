"""What a toy's folder brings along: its task, and what else it has, declared in the folder's `__init__.py`.

The rest of the package finds toys here and in `problems/registry.py`, and knows none by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from longjing.problems import Problem
from longjing.problems.registry import register
from longjing.toys.prose import Forms


@dataclass(frozen=True)
class Document:
    """A worked solution as its writer left it, right or wrong; plain conversation has an empty `reasoning`.

    `style` names the way of writing (a guess, a short search, ...), for counting and for the model card.
    `thinking`: whether the writer was asked to think first; one who wasn't has no reasoning. `history`: questions
    and answers that came before, the oldest first. `problem`: the one that a worked example solves.
    """

    prompt: str
    reasoning: str
    answer: str
    style: str
    thinking: bool = True
    history: tuple[tuple[str, str], ...] = ()
    problem: Problem | None = None


SolutionWriter = Callable[[Problem, Random], Document]
StandaloneWriter = Callable[[Random], Document]


@dataclass(frozen=True)
class Toy:
    """A toy task, and what its folder has beside it.

    `write_solution`: its corpus, one document about a problem. `everyday`: the shipped models have learned it, and it
    is asked where nothing else is said. `informal`: its prompts may be put as people type them (`paraphrase.py`), for
    a capital or a sign is never what is asked; `spoken`: its sums may be said in words. `forms`: its short forms and
    answer sentences; `short_fields` makes the gaps of the short forms from a problem's data.
    """

    task: type[Any]
    write_solution: SolutionWriter | None = None
    everyday: bool = False
    informal: bool = False
    spoken: bool = False
    forms: Forms = Forms()
    short_fields: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda data: data


TOYS: dict[str, Toy] = {}  # by the names of their tasks
STANDALONE: dict[str, StandaloneWriter] = {}  # kinds of documents without a stream of problems behind them
UNASKED: set[str] = set()  # those of them that answer nobody's question


def register_toy(toy: Toy) -> None:
    """Make a toy known, and its task with it."""
    register(toy.task)
    TOYS[toy.task.name] = toy


def register_documents(kind: str, write: StandaloneWriter, answers_question: bool = True) -> None:
    """Make a kind of documents known that has no problems behind it. `answers_question`: whether they answer somebody's
    question."""
    STANDALONE[kind] = write
    if not answers_question:
        UNASKED.add(kind)
