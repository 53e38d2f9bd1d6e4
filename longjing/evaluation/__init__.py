"""Evaluation: pass@k, maj@k, intervals, comparisons, and what each solved problem costs."""

from longjing.evaluation.evaluate import Evaluation, Record, compare, evaluate, normalise
from longjing.evaluation.statistics import Interval

__all__ = ["Evaluation", "Interval", "Record", "compare", "evaluate", "normalise"]
