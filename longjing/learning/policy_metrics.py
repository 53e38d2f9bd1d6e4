"""What all policies log that learn from their own samples, and the charts that it makes."""

from longjing.learning.policy import PolicySettings
from longjing.problems import max_turns
from longjing.runs.metric import ChartSpec, Measured, Metric, Series

ACCURACY = Metric("accuracy", "accuracy", "{:.0%}")
LENGTH = Metric("length_mean", "length", "{:.0f}")
TRUNCATED = Metric("truncated", "truncated", "{:.0%}")
LANGUAGE = Metric("language", form="{:.0%}")
_NAMES = (
    "length_max", "reasoning_length_mean", "unjudged", "entropy", "reflection", "loss", "kl",
    "clip_share", "ratio", "logprob_difference", "logprob_difference_mean", "rounding", "grad_norm",
    "learning_rate", "seconds_sampling",
    "seconds_judging", "seconds_updating", "tokens_per_second_updating",
)  # fmt: skip
POLICY_METRICS = (Metric("tokens_per_second_sampling", "tokens/s", "{:,.0f}"), LANGUAGE, *map(Metric, _NAMES))

POLICY_CHARTS = (
    ChartSpec(
        "Accuracy", [Series("accuracy", "training problems"),
                     *(Measured(split, f"held out ({split})") for split in ("validation", "test"))],
        "Completions with the right answer. Whiskers are 95% intervals.", percent=True, first=True),
    ChartSpec("Length", [Series("length_mean", "mean"), Series("length_max", "longest")],
              "Tokens of a completion.", first=True),
    ChartSpec("Language", [Series("language", "share")],
              "Words of the reasoning that are in the problem's language.", percent=True),
    ChartSpec("Reflection", [Series("reflection", "words")],
              "Words such as “wait”, “check”, “mistake” in a completion."),
    ChartSpec("Truncated", [Series("truncated", "cut off")],
              "Completions that reached the longest length allowed; they count as wrong.", percent=True),
    ChartSpec("Entropy", [Series("entropy", "nats a token")], "How undecided the policy is, in nats a token."),
)  # fmt: skip
MACHINERY_CHARTS = (
    ChartSpec("Gradient norm", [Series("grad_norm", "norm")], "Before clipping.", extreme=True),
    ChartSpec(
        "Engine against trainer", [Series("logprob_difference", "largest"), Series("logprob_difference_mean", "mean")],
        "The difference between what they hold for a sampled token's log-probability, in nats.",
        logarithmic=True, extreme=True, rounding=True),
    ChartSpec("Speed", [Series(f"tokens_per_second_{phase}", phase) for phase in ("sampling", "updating")],
              "Tokens a second.", first=True),
    ChartSpec("Seconds a step", [Series(f"seconds_{phase}", phase) for phase in ("sampling", "judging", "updating")],
              "Where the time goes."),
)  # fmt: skip


def talk_metrics(settings: PolicySettings) -> list[str]:
    """What is logged of tasks that reply."""
    return ["turns"] if max_turns(settings.task.make()) > 1 else []
