"""Evaluation: pass@k, maj@k, intervals, comparisons, and what each solved problem costs."""

from longjing.evaluation.bootstrap import Interval
from longjing.evaluation.compare import Comparison, compare
from longjing.evaluation.endpoint_client import EndpointClient
from longjing.evaluation.evaluate import EvalConfig, evaluate, measure, normalise
from longjing.evaluation.model_client import LocalClient, ModelClient
from longjing.evaluation.result import Evaluation, Price, Record

__all__ = [
    "Comparison", "EndpointClient", "EvalConfig", "Evaluation", "Interval", "LocalClient", "ModelClient", "Price",
    "Record", "compare", "evaluate", "measure", "normalise",
]  # fmt: skip
