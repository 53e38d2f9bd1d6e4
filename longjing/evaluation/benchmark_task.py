"""Published problems as a task: fixed, in one order, each with one right answer."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from random import Random
from typing import Any

from longjing.errors import UserError
from longjing.evaluation.evaluate import normalise
from longjing.problems import Completion, Problem, Split, Verdict, boxed
from longjing.tasks.row_files import Row
from longjing.verifiers.mathematics import Algebra
from longjing.verifiers.pool import VerifierError

REASON = "Please reason step by step, and put your final answer within \\boxed{}"
_CHOOSE = (
    "Answer the following multiple choice question. The last line of your response should be of the following "
    "format: 'ANSWER: $LETTER' (without quotes) where LETTER is one of ABCD. Think step by step before answering."
)
_LETTER = re.compile(r"ANSWER[^\w:]*+:\W*+(?:(?:boxed|text|mathrm)\W*+)*+([A-D])(?![A-Za-z])", re.IGNORECASE)
_CHOICES = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


class BenchmarkTask(ABC):
    """A task (see `tasks.base.Task`) with test problems only; a subclass reads a row, finds and compares answers.

    `origin` says in messages where the rows are from. Raises UserError for rows of another form.
    """

    def __init__(self, name: str, rows: Sequence[Row], settings: dict[str, Any], origin: str) -> None:
        self.name, self.settings = name, settings
        self._problems = []
        for number, row in enumerate(rows, 1):
            try:
                self._problems.append(self._problem(*self.read(row)))
            except KeyError as error:
                columns = ", ".join(map(str, row))
                raise UserError(f"{origin}, row {number}: no column {error}; there are {columns}") from None

    @abstractmethod
    def read(self, row: Row) -> tuple[str, str]:
        """Prompt and right answer. Raises KeyError, naming the column, if one is missing."""

    @abstractmethod
    def final(self, text: str) -> str | None:
        """The final answer in the answer part of a completion."""

    @abstractmethod
    def equal(self, gold: str, answer: str) -> bool:
        """Whether the answer is right. Raises VerifierError if nobody knows."""

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """The problems, the same for every seed, in the order of the file. Raises UserError for another split than
        test."""
        if split != "test":
            raise UserError(f"{self.name} has test problems only, for measuring: no {split} problems")
        return iter(self._problems)

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """The verdict on a completion (see `Task`). The format is R1's: reasoning, then a final answer."""
        answer = None if completion.truncated else self.final(completion.answer)
        format = float(completion.well_formed and answer is not None)
        if answer is None:
            reason = "truncated" if completion.truncated else "no final answer"
            return Verdict("wrong", {"accuracy": 0.0, "format": format}, reason)
        try:
            right = self.equal(problem.answer, answer)
        except VerifierError as error:
            return Verdict("unjudged", {"accuracy": 0.0, "format": format}, str(error))
        rewards = {"accuracy": float(right), "format": format}
        return Verdict("correct", rewards, "correct") if right else Verdict("wrong", rewards, "another answer")

    def solve(self, problem: Problem) -> str:
        return problem.answer

    def vote(self, problem: Problem, completion: Completion, verdict: Verdict) -> str | None:
        """There is one right answer, so all that are right say the same, however they say it."""
        if verdict.outcome == "correct":
            return normalise(problem.answer)
        answer = self.final(completion.answer)
        return None if answer is None else normalise(answer)

    def _problem(self, prompt: str, answer: str) -> Problem:
        id = blake2b(f"{self.name} {prompt}".encode(), digest_size=12).hexdigest()
        return Problem(self.name, id, prompt, answer, {}, "en")


class Mathematics(BenchmarkTask):
    """Rows with `problem` (or `question`) and `answer`, which may be a solution that ends in `#### answer`."""

    def __init__(self, name: str, rows: Sequence[Row], settings: dict[str, Any], origin: str) -> None:
        super().__init__(name, rows, settings, origin)
        self._verifier = Algebra()

    def read(self, row: Row) -> tuple[str, str]:
        question = _text(row, "question" if "question" in row else "problem")
        answer = _text(row, "answer").rpartition("####")[2].strip()
        return f"{question}\n\n{REASON}", answer

    def final(self, text: str) -> str | None:
        """What the last box holds: a summary may well name its result twice."""
        start = text.rfind("\\boxed{")
        return (boxed(text[start:]) or None) if start >= 0 else None

    def equal(self, gold: str, answer: str) -> bool:
        return self._verifier.equal(gold, answer)


class Choice(BenchmarkTask):
    """Rows of GPQA's form, whose four answers are put into an order that belongs to the question."""

    def read(self, row: Row) -> tuple[str, str]:
        question, choices = _text(row, "Question"), [_text(row, column) for column in _CHOICES]
        order = Random(question).sample(range(4), 4)
        lines = "\n".join(f"{letter}) {choices[index]}" for letter, index in zip("ABCD", order, strict=True))
        return f"{_CHOOSE}\n\n{question}\n\n{lines}", "ABCD"[order.index(0)]

    def final(self, text: str) -> str | None:
        """The letter after the last `ANSWER:`, or in the last box."""
        letters = _LETTER.findall(text) or re.findall(r"\\boxed\{\W*(?:text\W*)?([A-Da-d])\W*\}", text)
        return letters[-1].upper() if letters else None

    def equal(self, gold: str, answer: str) -> bool:
        return gold == answer


def _text(row: Row, column: str) -> str:
    """A cell; an empty one counts as missing."""
    if row[column] in (None, ""):
        raise KeyError(column)
    return str(row[column]).strip()
