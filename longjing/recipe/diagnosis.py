"""What the metrics of a stage say about it, in plain words, with what to do.

Every rule is a pure function of the rows of metrics.jsonl so far, and speaks about the last `WINDOW` steps.
The thresholds are rules of thumb, not theorems: they are where a look at the run begins to pay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev

from longjing.runs.jsonl import Row

WINDOW = 10
_EARLY = 3  # steps before anything is said
EXACT = 1e-5  # nats by which engine and trainer may differ in float32 on the CPU
_ROUNDING = {("cpu", "float32"): EXACT, ("cuda", "float32"): 1e-3, ("mps", "float32"): 1e-3}
_COARSE = 3.0  # in bfloat16, whose eight bits leave little to compare: the worst of ten million tokens was off by 1.7


@dataclass(frozen=True)
class Advice:
    """One remark. `topic` stays the same while the figures in `text` change."""

    topic: str
    text: str


Rows = Sequence[Row]


def diagnose(kind: str, rows: Rows, tolerance: float = EXACT) -> list[Advice]:
    """Remarks on a stage of this kind, the gravest first; none if all is well or it is too early to tell.

    `tolerance`: the difference between engine and trainer that rounding explains, in nats.
    """
    if len(rows) < _EARLY:
        return []
    found = [Advice(rule.__name__.strip("_"), text) for rule in _RULES[kind] if (text := rule(rows))]
    if (
        kind in ("reinforce", "distill")
        and (difference := max(_values(rows[-WINDOW:], "logprob_difference"), default=0)) > tolerance
    ):
        text = (
            f"log-probabilities of engine and trainer differ by {difference:.1e}, where {tolerance:.0e} is "
            "rounding: the policy that learns isn't the one that sampled; this is a defect, please report it"
        )
        found.insert(0, Advice("off_policy", text))
    return found


def tolerance(device: str, dtype: str) -> float:
    """By how much the log-probabilities of engine and trainer may differ, in nats."""
    return _ROUNDING.get((device.partition(":")[0], dtype), _COARSE)


def _values(rows: Rows, key: str) -> list[float]:
    return [row[key] for row in rows if row.get(key) is not None]


def _mean(rows: Rows, key: str) -> float | None:
    values = _values(rows, key)
    return fmean(values) if values else None


def _not_finite(rows: Rows) -> str | None:
    for row in rows[-WINDOW:]:
        for key in ("loss", "grad_norm"):
            if key in row and row[key] is None:
                return (
                    f"the {key.replace('_', ' ')} of step {row['step']} is not a number, which spoils the "
                    "weights; begin again with a lower `learning_rate` or a longer `warmup_steps`"
                )
    return None


def _without_signal(rows: Rows) -> str | None:
    share, wrong = (_mean(rows[-WINDOW:], key) for key in ("groups_without_signal", "groups_all_wrong"))
    if share is None or wrong is None or share <= 0.5:
        return None
    if wrong > share / 2:
        return (
            f"{share:.0%} of groups had equal rewards, most of them all wrong: the problems are too hard; "
            "lower `difficulty`, raise `group_size`, or begin from a better model"
        )
    return (
        f"{share:.0%} of groups had equal rewards, most of them all right: the problems are too easy; "
        "raise `difficulty`"
    )


def _truncated(rows: Rows) -> str | None:
    share = _mean(rows[-WINDOW:], "truncated")
    if share is None or share <= 0.2:
        return None
    return (
        f"{share:.0%} of completions were cut off before they ended, and count as wrong; raise `max_tokens`"
    )


def _entropy_collapsed(rows: Rows) -> str | None:
    before, now = _mean(rows[:WINDOW], "entropy"), _mean(rows[-WINDOW:], "entropy")
    if before is None or now is None or now > 0.2 * before or now > 0.1:
        return None
    return (
        f"entropy fell from {before:.2f} to {now:.2f} nats a token: the policy hardly explores any more; "
        "raise `clip_high`, or lower `learning_rate`"
    )


def _far_from_reference(rows: Rows) -> str | None:
    now = _mean(rows[-WINDOW:], "kl")
    if now is None or now <= 0.5:
        return None
    return (
        f"the policy is {now:.2f} nats a token away from its reference; raise `kl` or lower `learning_rate`"
    )


def _clipped(rows: Rows) -> str | None:
    share = _mean(rows[-WINDOW:], "clip_share")
    if share is None or share <= 0.2:
        return None
    return (
        f"{share:.0%} of tokens were clipped: the steps are too large; lower `learning_rate` or `minibatches`"
    )


def _gradient_spikes(rows: Rows) -> str | None:
    earlier, recent = _values(rows[:-WINDOW], "grad_norm"), _values(rows[-WINDOW:], "grad_norm")
    if len(earlier) < WINDOW or not recent or max(recent) <= 10 * median(earlier):
        return None
    return (
        f"the gradient's norm jumped to {max(recent):.3g}, usually {median(earlier):.3g}; if it goes on, "
        "lower `learning_rate` or `max_grad_norm`"
    )


def _verifier_failed(rows: Rows) -> str | None:
    count = sum(_values(rows[-WINDOW:], "unjudged"))
    if not count:
        return None
    return (
        f"the verifier failed on {count:.0f} completions of the last {len(rows[-WINDOW:])} steps, which "
        "taught nothing; look for the outcome unjudged in rollouts.jsonl"
    )


def _badly_formed(rows: Rows) -> str | None:
    share = _mean(rows[-WINDOW:], "reward_format")
    if share is None or len(rows) < 2 * WINDOW or share >= 0.5:
        return None
    return f"only {share:.0%} of completions are well-formed; give format more weight in `rewards`"


def _nothing_learned(rows: Rows) -> str | None:
    """Compares the first third with the last, by the spread that single steps have."""
    rewards = _values(rows, "reward")
    third = len(rewards) // 3
    if third < 15:
        return None
    first, last = rewards[:third], rewards[-third:]
    # Differences of neighbours measure the noise whatever the trend; a mean of n has 1/sqrt(n) of it.
    noise = stdev(after - before for before, after in pairwise(rewards)) / third**0.5
    if fmean(last) - fmean(first) > 2 * noise:
        return None
    return (
        f"the reward has not risen in {len(rewards)} steps ({fmean(first):.2f}, now {fmean(last):.2f}); "
        "raise `learning_rate` or `prompts_per_step`, or begin from a model that solves more"
    )


def _loss_rises(rows: Rows) -> str | None:
    losses = _values(rows, "loss")
    blocks = [fmean(losses[start : start + WINDOW]) for start in range(0, len(losses) - WINDOW + 1, WINDOW)]
    if len(blocks) < 3 or blocks[-1] <= 1.2 * min(blocks):
        return None
    return f"the loss rose to {blocks[-1]:.2f} after {min(blocks):.2f}; lower `learning_rate`"


def _experts_unbalanced(rows: Rows) -> str | None:
    load = _mean(rows[-WINDOW:], "load_max")
    if load is None or len(rows) < 10 * WINDOW or load <= 4:
        return None
    return f"the busiest expert gets {load:.1f} times its share of the tokens; raise `balance_speed`"


def _little_kept(rows: Rows) -> str | None:
    recent = rows[-WINDOW:]
    sampled, kept = (sum(_values(recent, key)) for key in ("sampled", "kept"))
    if not sampled or kept >= 0.05 * sampled:
        return None
    counts = {
        key.removeprefix("rejected_"): sum(_values(recent, key))
        for key in recent[-1]
        if key.startswith("rejected_")
    }
    reason = max(counts, key=lambda name: counts[name], default="")
    why = f", most of the others were {reason}" if reason else ""
    return (
        f"only {kept / sampled:.1%} of the samples are kept{why}; "
        "ask for less in `keep`, or begin from a better model"
    )


_READING: list[Callable[[Rows], str | None]] = [_not_finite, _loss_rises, _gradient_spikes]
_RULES: dict[str, list[Callable[[Rows], str | None]]] = {
    "pretrain": [*_READING, _experts_unbalanced],
    "finetune": [*_READING, _experts_unbalanced],
    "reward-model": _READING,
    "sample": [_little_kept],
    "distill": [_not_finite, _truncated, _gradient_spikes],
    "reinforce": [
        _not_finite, _verifier_failed, _without_signal, _truncated, _badly_formed, _entropy_collapsed,
        _far_from_reference, _clipped, _gradient_spikes, _nothing_learned,
    ],
}  # fmt: skip
