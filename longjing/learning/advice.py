"""What the metrics of a stage say about it, in plain words, with what to do.

A kind of stage lists its rules; those that several kinds share are here. Every rule is a pure function of the rows of
metrics.jsonl so far, and speaks about the last `WINDOW` steps.
The thresholds are rules of thumb, not theorems: they are where a look at the run begins to pay.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from statistics import fmean, median

from longjing.runs.jsonl import Row

WINDOW = 10
# Nats by which engine and trainer may differ, in a network of `_LAYERS`: at the worst token in float32 on the CPU, and
# on average in any format.
EXACT, _MEAN = 1e-5, 0.005
_LAYERS, _NATS = 4, 20.0
_ROUNDING = {("cpu", "float32"): EXACT, ("cuda", "float32"): 1e-3, ("mps", "float32"): 1e-3}


@dataclass(frozen=True)
class Advice:
    """One remark. `topic` stays the same while the figures in `text` change."""

    topic: str
    text: str


Rows = Sequence[Row]
Rule = Callable[[Rows], str | None]  # its name is the topic


def diagnose(rules: Iterable[Rule], rows: Rows, tolerance: float = EXACT) -> list[Advice]:
    """Remarks on a stage by the rules of its kind, the gravest first; none if all is well or it is too early to tell.

    `tolerance`: the difference between engine and trainer that rounding explains, in nats.
    """
    if len(rows) < 3:  # too early
        return []
    result = [Advice(rule.__name__, text) for rule in rules if (text := rule(rows))]
    recent = rows[-WINDOW:]
    difference, mean = (
        max(values_of(recent, key), default=0) for key in ("logprob_difference", "logprob_difference_mean")
    )
    tolerance *= max(values_of(recent, "rounding"), default=1)
    if difference > tolerance or mean > _MEAN:
        what = (
            f"by {difference:.1e}, where {tolerance:.0e} is rounding" if difference > tolerance
            else f"by {mean:.1e} a token on average, where {_MEAN:g} is rounding"
        )  # fmt: skip
        text = (
            f"log-probabilities of engine and trainer differ {what}: the policy that learns isn't the one that "
            "sampled; this is a defect, please report it"
        )
        result.insert(0, Advice("off_policy", text))
    return result


def rounding(layers: int, nats: float) -> float:
    """By what factor more than in the smallest networks rounding may move a log-probability: each layer rounds the
    stream of which the logits are made, and what is lost grows with them. `nats`: the least likely token's share, which
    tells how far the logits lie apart."""
    return max(1.0, layers / _LAYERS) * max(1.0, nats / _NATS)


def tolerance(device: str, dtype: str) -> float:
    """The bound by which the log-probabilities of engine and trainer may differ, in nats."""
    # In bfloat16 eight bits leave little to compare: the worst of ten million tokens was off by 1.7.
    return _ROUNDING.get((device.partition(":")[0], dtype), 3.0)


def values_of(rows: Rows, key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def mean_of(rows: Rows, key: str) -> float | None:
    values = values_of(rows, key)
    return fmean(values) if values else None


def threshold(topic: str, key: str, text: str, *, above: float = inf, below: float = -inf, after: int = 0) -> Rule:
    """The rule that the mean of a metric lies above or below what is well, `text` with the mean in it; from so many
    steps on."""

    def rule(rows: Rows) -> str | None:
        mean = mean_of(rows[-WINDOW:], key)
        alarming = mean is not None and len(rows) >= after and (mean > above or mean < below)
        return text.format(mean) if alarming else None

    rule.__name__ = topic
    return rule


def not_finite(rows: Rows) -> str | None:
    for row, key in product(rows[-WINDOW:], ("loss", "grad_norm")):
        if key in row and row[key] is None:
            return (
                f"the {key.replace('_', ' ')} of step {row['step']} is not a number, which spoils the weights; begin "
                "again with a lower `learning_rate` or a longer `warmup_steps`"
            )
    return None


truncated = threshold(
    "truncated", "truncated", above=0.2,
    text="{:.0%} of completions were cut off before they ended, and count as wrong; raise `max_tokens`",
)  # fmt: skip


def gradient_spikes(rows: Rows) -> str | None:
    earlier, recent = values_of(rows[:-WINDOW], "grad_norm"), values_of(rows[-WINDOW:], "grad_norm")
    if len(earlier) < WINDOW or not recent or max(recent) <= 10 * median(earlier):
        return None
    return (
        f"the gradient's norm jumped to {max(recent):.3g}, usually {median(earlier):.3g}; if it goes on, "
        "lower `learning_rate` or `max_grad_norm`"
    )


def loss_rises(rows: Rows) -> str | None:
    losses = values_of(rows, "loss")
    blocks = [fmean(losses[start : start + WINDOW]) for start in range(0, len(losses) - WINDOW + 1, WINDOW)]
    if len(blocks) < 3 or blocks[-1] <= 1.2 * min(blocks):
        return None
    return f"the loss rose to {blocks[-1]:.2f} after {min(blocks):.2f}; lower `learning_rate`"
