"""Evaluations side by side: what each solved and at what price, and how sure one may be of the differences."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from longjing.errors import UserError
from longjing.evaluation import statistics
from longjing.evaluation.result import Evaluation
from longjing.evaluation.statistics import Interval


def compare(before: Evaluation, after: Evaluation) -> Interval:
    """How much `after` solves more of the same problems, with a paired 95% interval.

    Raises UserError if the two didn't answer the same problems.
    """
    if [record.id for record in before.records] != [record.id for record in after.records]:
        one, other = (f"{side.problems} of {side.task} {side.settings}" for side in (before, after))
        raise UserError(
            f"the evaluations differ in their problems ({one}; {other}): "
            "run both with the same task, settings and number of problems"
        )
    judged = ~np.isnan(before.scores).all(axis=1) & ~np.isnan(after.scores).all(axis=1)
    if not judged.any():
        raise UserError("no problem was judged in both evaluations: there is nothing to compare")
    first, second = (statistics.problem_means(side.scores[judged]) for side in (before, after))
    return statistics.paired_difference(first, second)


@dataclass(frozen=True)
class Comparison:
    """Evaluations of the same problems by their names; `differences` of the others from the first."""

    evaluations: Mapping[str, Evaluation]
    differences: Mapping[str, Interval]

    @classmethod
    def of(cls, evaluations: Mapping[str, Evaluation]) -> "Comparison":
        """Raises UserError unless there are two at least, all of the same problems."""
        if len(evaluations) < 2:
            raise UserError("a comparison needs two different evaluations at least")
        first, *others = evaluations
        return cls(evaluations, {name: compare(evaluations[first], evaluations[name]) for name in others})

    def table(self) -> list[tuple[str, ...]]:
        """One column for each evaluation, one row for each figure; the first row is the header."""
        columns = [dict(evaluation.summary_rows()) for evaluation in self.evaluations.values()]
        labels = dict.fromkeys(label for column in columns for label in column)
        rows = [(label, *(column.get(label, "-") for column in columns)) for label in labels]
        return [("", *self.evaluations), *rows]

    def difference_rows(self) -> list[tuple[str, str]]:
        """Label and value of each difference, in percentage points."""
        first = next(iter(self.evaluations))
        return [
            (
                f"{name} - {first}",
                f"{100 * found.mean:+.1f} points  (95%: {100 * found.low:+.1f} to {100 * found.high:+.1f}; "
                f"{found.method})",
            )
            for name, found in self.differences.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """The summaries and the differences, JSON-able."""
        return {
            "evaluations": {name: evaluation.summary() for name, evaluation in self.evaluations.items()},
            "differences": {name: asdict(interval) for name, interval in self.differences.items()},
        }
