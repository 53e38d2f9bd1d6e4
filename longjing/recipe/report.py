"""The report of a run: one HTML file that needs nothing else, of whatever the run directory holds so far.

What a model wrote is hostile until shown otherwise: it reaches the page through Jinja's autoescaping only.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from longjing.planning.bill import Bill, duration, quantity
from longjing.recipe.charts import Chart, Line
from longjing.recipe.diagnosis import Advice, diagnose, tolerance
from longjing.runs import RunDirectory, StageDirectory
from longjing.runs.files import write_text
from longjing.runs.jsonl import Row
from longjing.text.reasoning import Parsed, parse

_GROUP = 8  # completions shown of one group


@dataclass(frozen=True)
class Sample:
    """One completion of a problem, taken apart. `outcome`: correct, wrong or unjudged."""

    text: Parsed
    outcome: str
    reward: float | None = None
    advantage: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Sample":
        opened = row["text"].lstrip().startswith("<think>")  # else the prompt has opened the reasoning
        return cls(
            parse(row["text"], prefilled=not opened), row["outcome"], row.get("reward"), row.get("advantage")
        )


@dataclass(frozen=True)
class StageReport:
    """What the page shows of one stage."""

    name: str
    kind: str
    done: int
    steps: int
    finished: bool
    charts: list[Chart]
    advice: list[Advice]
    evaluations: list[Row]
    before: Row | None
    after: Row | None
    pairs: list[tuple[str, Sample, Sample]]
    group: Row | None
    group_samples: list[Sample]

    @property
    def gain(self) -> float | None:
        """Percentage points of held-out accuracy."""
        if self.before is None or self.after is None:
            return None
        return float(self.after["pass_at_1"] - self.before["pass_at_1"]) * 100


def write_report(run: RunDirectory) -> Path:
    """Write report.html for a run that is finished, going on or broken off. Returns its path."""
    path = run.path / "report.html"
    write_text(path, render(run))
    return path


def render(run: RunDirectory) -> str:
    recipe = run.recipe()
    allowed = tolerance(recipe["device"], recipe["dtype"])
    stages = [_stage(run.stage(settings["name"]), settings, allowed) for settings in recipe["stages"]]
    bill = run.read_json("bill.json")
    environment = Environment(
        loader=PackageLoader("longjing.recipe", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"share": lambda value: f"{value:.1%}", "duration": duration, "quantity": quantity}
    return environment.get_template("report.html.jinja").render(
        recipe=recipe,
        recipe_yaml=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        stages=stages,
        headline=next((stage for stage in reversed(stages) if stage.gain is not None), None),
        finished=all(stage.finished for stage in stages),
        bill=Bill.from_dict(bill) if bill else None,
        reproduce=shlex.join(
            ["longjing", "run", str(run.path / "recipe.yaml"), "--out", f"{run.path}-again"]
        ),
        chat=shlex.join(["longjing", "chat", str(run.path)]),
    )


def _stage(stage: StageDirectory, settings: Mapping[str, Any], allowed: float) -> StageReport:
    rows = stage.metrics.rows()
    # A stage that was killed between a measurement and its end measures again: the last one counts.
    evaluations = list(
        {(row["step"], row["split"], row["task"]): row for row in stage.evaluations.rows()}.values()
    )
    test = [row for row in evaluations if row["split"] == "test" and row["pass_at_1"] is not None]
    before, after = (test[0], test[-1]) if len(test) > 1 else (None, None)
    reinforcing = settings["kind"] == "reinforce"
    group = next(iter(stage.rollouts.last(1)), None)
    return StageReport(
        name=stage.name,
        kind=settings["kind"],
        done=rows[-1]["step"] + 1 if rows else 0,
        steps=settings["steps"],
        finished=stage.result is not None,
        charts=_reinforcement_charts(rows, evaluations, allowed)
        if reinforcing
        else _pretraining_charts(rows),
        advice=diagnose(settings["kind"], rows, allowed),
        evaluations=evaluations,
        before=before,
        after=after,
        pairs=_pairs(before, after) if before and after else [],
        group=group,
        group_samples=[Sample.of(completion) for completion in group["completions"][:_GROUP]]
        if group
        else [],
    )


def _pairs(before: Row, after: Row) -> list[tuple[str, Sample, Sample]]:
    """The problems that both measurements show, in the order of the test set: nothing is picked."""
    later = {example["problem"]: example for example in after["examples"]}
    return [
        (example["prompt"], Sample.of(example), Sample.of(later[example["problem"]]))
        for example in before["examples"]
        if example["problem"] in later
    ]


def _line(rows: Sequence[Row], key: str, label: str) -> Line:
    return Line(label, [(row["step"] + 1, row[key]) for row in rows if row.get(key) is not None])


def _held_out(evaluations: Sequence[Row], split: str) -> Line:
    rows = [row for row in evaluations if row["split"] == split and row["pass_at_1"] is not None]
    return Line(
        f"held out ({split})",
        [(row["step"] + 1, row["pass_at_1"]) for row in rows],
        [(row["low"], row["high"]) for row in rows],
    )


def _reinforcement_charts(rows: Sequence[Row], evaluations: Sequence[Row], allowed: float) -> list[Chart]:
    parts = sorted({key for row in rows for key in row if key.startswith("reward_")})
    rewards = [
        _line(rows, "reward", "all"),
        *(_line(rows, key, key.removeprefix("reward_")) for key in parts),
    ]
    return [
        Chart(
            "Accuracy",
            [
                _line(rows, "accuracy", "training problems"),
                *(_held_out(evaluations, s) for s in ("validation", "test")),
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
        Chart(
            "Distance from the reference",
            [_line(rows, "kl", "KL")],
            "KL divergence in nats a token (the k3 estimate).",
        ),
        Chart("Gradient norm", [_line(rows, "grad_norm", "norm")], "Before clipping.", extreme=True),
        Chart(
            "Engine against trainer",
            [_line(rows, "logprob_difference", "largest difference")],
            "The largest difference between what they hold for a sampled token's log-probability, in nats. "
            "Below the line it is rounding.",
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


def _pretraining_charts(rows: Sequence[Row]) -> list[Chart]:
    return [
        Chart(
            "Loss",
            [_line(rows, "loss", "next token"), _line(rows, "mtp_loss", "token after")],
            "Nats a token, on documents not seen before.",
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
