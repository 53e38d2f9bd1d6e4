"""`syllogism`: what each statement says, which of them lead to the conclusion, and by which rule."""

import re
from typing import NamedTuple

from longjing.problems import Problem

_STATEMENT = r"(All|No|Some) (\w+) are (not )?(\w+)"
_QUESTION = re.compile(rf"1\. {_STATEMENT}\s+2\. {_STATEMENT}\s+.*?follow that:\s+{_STATEMENT}", re.DOTALL)
_PARTICULAR, _NEGATIVE = ("some", "some not"), ("no", "some not")


class Statement(NamedTuple):
    """`quantifier` of `subject` are (not) `predicate`: all, no, some or some not."""

    quantifier: str
    subject: str
    predicate: str

    def __str__(self) -> str:
        if self.quantifier == "some not":
            return f"some {self.subject} are not {self.predicate}"
        return f"{self.quantifier} {self.subject} are {self.predicate}"

    @property
    def distributed(self) -> set[str]:
        """The terms of which it says something about every one."""
        said = {"all": {self.subject}, "no": {self.subject, self.predicate}, "some not": {self.predicate}}
        return said.get(self.quantifier, set())


def solution(problem: Problem) -> str | None:
    """The reasoning, which ends in yes or no; None for another question."""
    found = _QUESTION.search(problem.prompt)
    if found is None:
        return None
    groups = found.groups()
    first, second, conclusion = (
        Statement(f"{quantifier.lower()} not" if negated else quantifier.lower(), subject, predicate)
        for quantifier, subject, negated, predicate in (groups[:4], groups[4:8], groups[8:])
    )
    asked = {conclusion.subject, conclusion.predicate}
    for statement in (first, second):
        if {statement.subject, statement.predicate} == asked:
            why, follows = _converse(statement, conclusion)
            break
    else:
        why, follows = _syllogism(first, second, conclusion)
    return f"{why}\nSo it {'follows' if follows else 'does not follow'}: {'Yes' if follows else 'No'}."


def _converse(premise: Statement, conclusion: Statement) -> tuple[str, bool]:
    """Whether a statement about the same two terms follows from one premise turned round."""
    start = f"Both {conclusion.subject} and {conclusion.predicate} are in one statement: {premise}."
    turned = {"no": "no", "all": "some", "some": "some"}.get(premise.quantifier)
    if turned is None:
        return f"{start}\nIt can't be turned round.", False
    result = Statement(turned, premise.predicate, premise.subject)
    return f"{start}\nTurned round it says: {result}.\nThe question: {conclusion}.", result == conclusion


def _syllogism(first: Statement, second: Statement, conclusion: Statement) -> tuple[str, bool]:
    """Whether it follows from both premises, by the rules of Aristotle that the library keeps to."""
    shared = {first.subject, first.predicate} & {second.subject, second.predicate}
    asked = {conclusion.subject, conclusion.predicate}
    if len(shared) != 1 or asked != ({first.subject, first.predicate} ^ {second.subject, second.predicate}):
        return "The statements don't connect the two terms.", False
    (middle,) = shared
    start = f"1 says: {first}. 2 says: {second}. They share {middle}.\nThe question: {conclusion}."
    quantifiers = (first.quantifier, second.quantifier)
    negative = sum(quantifier in _NEGATIVE for quantifier in quantifiers)
    particular = sum(quantifier in _PARTICULAR for quantifier in quantifiers)
    if negative == 2:
        return f"{start}\nBoth statements are negative.", False
    if particular == 2:
        return f"{start}\nBoth statements say only some.", False
    if particular and conclusion.quantifier not in _PARTICULAR:
        return f"{start}\nOne statement says only some, the question more.", False
    if negative and conclusion.quantifier not in _NEGATIVE:
        return f"{start}\nOne statement is negative, the question is not.", False
    if not negative and conclusion.quantifier in _NEGATIVE:
        return f"{start}\nNo statement is negative, the question is.", False
    if middle not in first.distributed | second.distributed:  # which the library overlooks
        return f"{start}\nNo statement is about every one of the {middle}.", False
    for term in sorted(conclusion.distributed):
        if term not in first.distributed | second.distributed:
            return f"{start}\nThe question is about every one of the {term}, the statements are not.", False
    return f"{start}\nThe statements connect them through {middle}.", True
