"""Evaluation: pass@k, maj@k, intervals, comparisons, and what each solved problem costs."""

from longjing.evaluation.compare import Comparison, compare
from longjing.evaluation.endpoint import Endpoint
from longjing.evaluation.evaluate import Procedure, evaluate, measure, normalise
from longjing.evaluation.respondents import Local, Respondent
from longjing.evaluation.result import Evaluation, Price, Record
from longjing.evaluation.statistics import Interval

__all__ = [
    "Comparison", "Endpoint", "Evaluation", "Interval", "Local", "Price", "Procedure", "Record", "Respondent",
    "compare", "evaluate", "measure", "normalise",
]  # fmt: skip
