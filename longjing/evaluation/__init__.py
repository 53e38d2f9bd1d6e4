"""Evaluation: pass@k, maj@k, intervals, comparisons, and what each solved problem costs."""

from longjing.evaluation.compare import Comparison, compare
from longjing.evaluation.endpoint_client import EndpointClient
from longjing.evaluation.evaluate import EvalConfig, evaluate, measure, normalise
from longjing.evaluation.model_client import Local, ModelClient
from longjing.evaluation.result import Evaluation, Price, Record
from longjing.evaluation.statistics import Interval

__all__ = [
    "Comparison", "EndpointClient", "Evaluation", "Interval", "Local", "Price", "EvalConfig", "Record", "ModelClient",
    "compare", "evaluate", "measure", "normalise",
]  # fmt: skip
