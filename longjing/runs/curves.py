"""The charts of each kind of stage, from its logs. A chart without a single value is left out of the page."""

from collections.abc import Sequence

from longjing.runs.charts import Chart, Line
from longjing.runs.jsonl import Row

_REASONS = 5  # for which there are colours


def curves(
    kind: str, rows: Sequence[Row], evaluations: Sequence[Row], allowed: float | None = None
) -> list[Chart]:
    """`allowed`: the difference between engine and trainer that is rounding, in nats, where the reader knows it."""
    if kind in ("reinforce", "distill"):
        return _policy(kind, rows, evaluations, allowed)
    if kind == "sample":
        return _curation(rows)
    if kind == "reward-model":
        return _preference(rows, evaluations)
    return _reading(rows)


def _line(rows: Sequence[Row], key: str, label: str) -> Line:
    return Line(label, [(row["step"] + 1, row[key]) for row in rows if row.get(key) is not None])


def _shares(rows: Sequence[Row], key: str, label: str) -> Line:
    return Line(label, [(row["step"] + 1, row[key] / row["sampled"]) for row in rows if row.get("sampled")])


def _measured(evaluations: Sequence[Row], split: str, label: str) -> Line:
    rows = [row for row in evaluations if row["split"] == split and row["pass_at_1"] is not None]
    return Line(
        label,
        [(row["step"] + 1, row["pass_at_1"]) for row in rows],
        [(row["low"], row["high"]) for row in rows],
    )


def _policy(kind: str, rows: Sequence[Row], evaluations: Sequence[Row], allowed: float | None) -> list[Chart]:
    """Of a policy that learns from its own samples, by rewards or from a teacher."""
    parts = sorted({key for row in rows for key in row if key.startswith("reward_")})
    rewards = [
        _line(rows, "reward", "all"),
        *(_line(rows, key, key.removeprefix("reward_")) for key in parts),
    ]
    if kind == "distill":
        note = "KL divergence in nats a token, over what the student writes itself."
        distance = Chart("Distance from the teacher", [_line(rows, "kl", "KL")], note)
    else:
        note = "KL divergence in nats a token (the k3 estimate)."
        distance = Chart("Distance from the reference", [_line(rows, "kl", "KL")], note)
    return [
        Chart(
            "Accuracy",
            [
                _line(rows, "accuracy", "training problems"),
                *(_measured(evaluations, split, f"held out ({split})") for split in ("validation", "test")),
            ],
            "Completions with the right answer. Whiskers are 95% intervals.",
            percent=True,
        ),
        Chart("Reward", rewards, "Mean over completions, and its parts before they are weighted."),
        Chart(
            "Length",
            [_line(rows, "length_mean", "mean"), _line(rows, "length_max", "longest")],
            "Tokens of a completion.",
        ),
        Chart(
            "Language",
            [_line(rows, "language", "share")],
            "Words of the reasoning that are in the problem's language.",
            percent=True,
        ),
        Chart(
            "Reflection",
            [_line(rows, "reflection", "words")],
            "Words such as “wait”, “check”, “mistake” in a completion.",
        ),
        Chart(
            "Groups without signal",
            [
                _line(rows, "groups_without_signal", "equal rewards"),
                _line(rows, "groups_all_wrong", "all wrong"),
            ],
            "A group whose rewards are all equal teaches nothing.",
            percent=True,
        ),
        Chart(
            "Truncated",
            [_line(rows, "truncated", "cut off")],
            "Completions that reached the longest length allowed; they count as wrong.",
            percent=True,
        ),
        Chart(
            "Entropy",
            [_line(rows, "entropy", "nats a token")],
            "How undecided the policy is, in nats a token.",
        ),
        distance,
        Chart("Gradient norm", [_line(rows, "grad_norm", "norm")], "Before clipping.", extreme=True),
        Chart(
            "Engine against trainer",
            [_line(rows, "logprob_difference", "largest difference")],
            "The largest difference between what they hold for a sampled token's log-probability, in nats."
            + ("" if allowed is None else " Below the line it is rounding."),
            logarithmic=True,
            limit=allowed,
            extreme=True,
        ),
        Chart(
            "Speed",
            [
                _line(rows, "tokens_per_second_sampling", "sampling"),
                _line(rows, "tokens_per_second_updating", "updating"),
            ],
            "Tokens a second.",
        ),
        Chart(
            "Seconds a step",
            [_line(rows, f"seconds_{phase}", phase) for phase in ("sampling", "judging", "updating")],
            "Where the time goes.",
        ),
    ]


def _curation(rows: Sequence[Row]) -> list[Chart]:
    totals = {
        key: sum(row[key] for row in rows) for key in (rows[0] if rows else {}) if key.startswith("rejected_")
    }
    reasons = sorted(filter(totals.get, totals), key=lambda key: -totals[key])[:_REASONS]
    return [
        Chart(
            "Kept",
            [_shares(rows, "kept", "kept"), _line(rows, "accuracy", "right")],
            "Of the samples.",
            percent=True,
        ),
        Chart(
            "Not kept",
            [_shares(rows, key, key.removeprefix("rejected_")) for key in reasons],
            "Of the samples, by the first reason that was found; the commonest ones.",
            percent=True,
        ),
        Chart("Length", [_line(rows, "length_mean", "mean")], "Tokens of a sample."),
        Chart("Speed", [_line(rows, "tokens_per_second_sampling", "sampling")], "Tokens a second."),
    ]


def _preference(rows: Sequence[Row], evaluations: Sequence[Row]) -> list[Chart]:
    return [
        Chart("Loss", [_line(rows, "loss", "loss")], "Nats an example."),
        Chart(
            "Accuracy",
            [_line(rows, "accuracy", "training"), _measured(evaluations, "held-out", "held out")],
            "Pairs put into the right order, or texts told apart. Whiskers are 95% intervals.",
            percent=True,
        ),
        Chart("Margin", [_line(rows, "margin", "lead")], "By how much the better side leads, mean score."),
        Chart("Gradient norm", [_line(rows, "grad_norm", "norm")], "Before clipping.", extreme=True),
        Chart("Learning rate", [_line(rows, "learning_rate", "rate")]),
        Chart("Speed", [_line(rows, "tokens_per_second", "training")], "Tokens a second."),
    ]


def _reading(rows: Sequence[Row]) -> list[Chart]:
    return [
        Chart(
            "Loss",
            [_line(rows, "loss", "next token"), _line(rows, "mtp_loss", "token after")],
            "Nats a token.",
        ),
        Chart("Gradient norm", [_line(rows, "grad_norm", "norm")], "Before clipping.", extreme=True),
        Chart("Learning rate", [_line(rows, "learning_rate", "rate")]),
        Chart("Speed", [_line(rows, "tokens_per_second", "training")], "Tokens a second."),
        Chart(
            "Busiest expert",
            [_line(rows, "load_max", "load")],
            "Its share of the tokens, in multiples of an equal share.",
        ),
    ]
