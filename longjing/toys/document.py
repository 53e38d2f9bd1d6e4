"""A document of the generated corpus: one question, somebody's reasoning about it, and the answer they gave."""

from dataclasses import dataclass

from longjing.problems import Problem


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
