"""Whose fault it is that a verdict was not to be had: the answer's, or somebody else's."""

from typing import Any

from longjing.tasks.verifiers.pool import Pool, VerifierError


class AnswerError(Exception):
    """Judging the answer failed or took too long, where another answer to the problem is judged: it is wrong."""


def ask(pool: Pool, question: tuple[Any, ...], instead: tuple[Any, ...]) -> Any:
    """What the pool says to the question; `instead` is the same one with an answer that does no harm.

    Raises AnswerError if only that can be judged, and VerifierError if neither can: then nobody knows.
    """
    try:
        return pool.ask(*question)
    except VerifierError as error:
        pool.ask(*instead)
        raise AnswerError(str(error)) from None
