"""Evaluations side by side: what each solved and at what price, and how sure one may be of the differences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longjing.errors import UserError
from longjing.evaluation.bootstrap import Interval, paired_difference
from longjing.evaluation.evaluate import EvalConfig, problems_of
from longjing.evaluation.result import Evaluation
from longjing.problems import Task


@dataclass(frozen=True)
class ProblemSet:
    """Problems that were measured, or will be: in words, by id, and their right answers ("" where there is none)."""

    description: str
    ids: Sequence[str]
    answers: Sequence[str]

    @classmethod
    def of_evaluation(cls, evaluation: Evaluation) -> "ProblemSet":
        records = evaluation.records
        description = f"{evaluation.problems} of {evaluation.task} {evaluation.settings}"
        return cls(description, [record.id for record in records], [record.gold for record in records])

    @classmethod
    def of_task(cls, task: Task, config: EvalConfig) -> "ProblemSet":
        """What a measurement will ask."""
        problems = problems_of(task, config)
        description = f"{len(problems)} of {task.name} {task.settings}"
        return cls(description, [problem.id for problem in problems], [problem.answer for problem in problems])


def require_same(before: ProblemSet, after: ProblemSet) -> None:
    """Refuse what can't be compared. Raises UserError unless both have the same problems, and hold the same answers
    right."""
    both = f"{before.description}; {after.description}"
    if before.ids != after.ids:
        raise UserError(
            f"the evaluations differ in their problems ({both}): "
            "run both with the same task, settings and number of problems"
        )
    pairs = zip(before.answers, after.answers, strict=True)
    differing = [(one, other) for one, other in pairs if one and other and one != other]
    if differing:
        one, other = differing[0]
        raise UserError(
            f"the evaluations differ in the right answers to {len(differing)} of their {len(before.ids)} problems "
            f"({one!r} and {other!r}, for one; {both}): run both with the same file or version"
        )


def compare(before: Evaluation, after: Evaluation) -> Interval:
    """The difference by which `after` solves more of the same problems, with a paired 95% interval. Raises UserError if
    the two didn't answer the same problems."""
    require_same(ProblemSet.of_evaluation(before), ProblemSet.of_evaluation(after))
    return paired_difference(before.scores.mean(axis=1), after.scores.mean(axis=1))


def compare_majorities(before: Evaluation, after: Evaluation) -> Interval | None:
    """The difference in maj@k, likewise; None where that says nothing: with other numbers of samples (k), or one of
    them."""
    if not before.samples == after.samples > 1:
        return None
    return paired_difference(before.majorities, after.majorities)


@dataclass(frozen=True)
class Comparison:
    """Evaluations of the same problems by their names; `differences` of the others from the first in pass@1, and those
    `of_majorities` in maj@k."""

    evaluations: Mapping[str, Evaluation]
    differences: Mapping[str, Interval]
    of_majorities: Mapping[str, Interval]

    @classmethod
    def of(cls, evaluations: Mapping[str, Evaluation]) -> "Comparison":
        """The comparison of these evaluations. Raises UserError unless there are two at least, all of the same
        problems."""
        if len(evaluations) < 2:
            raise UserError("a comparison needs two different evaluations at least")
        (_, before), *others = evaluations.items()
        differences = {name: compare(before, after) for name, after in others}
        majorities = {name: compare_majorities(before, after) for name, after in others}
        return cls(evaluations, differences, {name: of for name, of in majorities.items() if of is not None})

    def table(self) -> list[tuple[str, ...]]:
        """One column for each evaluation, one row for each figure; the first row is the header."""
        columns = [dict(evaluation.summary_rows()) for evaluation in self.evaluations.values()]
        labels = dict.fromkeys(label for column in columns for label in column)
        return [
            ("", *self.evaluations),
            *((label, *(column.get(label, "-") for column in columns)) for label in labels),
        ]

    def difference_rows(self) -> list[tuple[str, str]]:
        """Label and value of each difference, in percentage points."""
        first, k = next((name, each.samples) for name, each in self.evaluations.items())
        rows = [(f"{name} - {first}", _in_points(each)) for name, each in self.differences.items()]
        rows += [(f"{name} - {first}, maj@{k}", _in_points(each)) for name, each in self.of_majorities.items()]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The summaries and the differences, JSON-able."""
        return {
            "evaluations": {name: evaluation.summary() for name, evaluation in self.evaluations.items()},
            "differences": {name: asdict(interval) for name, interval in self.differences.items()},
            "differences_maj_at_k": {name: asdict(interval) for name, interval in self.of_majorities.items()},
        }


def _in_points(difference: Interval) -> str:
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:+.1f} points  (95%: {low:+.1f} to {high:+.1f}; {difference.method})"
