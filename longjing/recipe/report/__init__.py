"""The report of a run: one HTML file that needs nothing else, of whatever the run directory holds so far.

What a model wrote is hostile until shown otherwise: it reaches the page through Jinja's autoescaping only.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from longjing.files import write_text
from longjing.learning.advice import tolerance
from longjing.learning.stage import MODEL
from longjing.planning.bill import Bill, Phase, duration, quantity, significant
from longjing.recipe.report.comparison import CheckpointComparison
from longjing.recipe.report.lineage import Lineage
from longjing.recipe.report.sections import Section
from longjing.recipe.stages import makes
from longjing.runs import RunDirectory
from longjing.runs.figures import unjudged
from longjing.runs.jsonl import Row


def write_report(run: RunDirectory) -> Path:
    """Write report.html for a run that is finished, going on or broken off. Returns its path."""
    path = run.path / "report.html"
    write_text(path, render(run))
    return path


def render(run: RunDirectory) -> str:
    recipe = run.recipe()
    allowed, comparison = tolerance(recipe["device"], recipe["dtype"]), CheckpointComparison.of(run.checkpoints.rows())
    stages = [Section.of(run.stage(settings["name"]), settings, allowed) for settings in recipe["stages"]]
    talks = any(stage.finished and makes(stage.kind) == MODEL for stage in stages)
    written = run.read_json("bill.json") or {}
    bill = Bill.from_dict(written) if written else None
    environment = Environment(
        loader=PackageLoader("longjing.recipe.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"unjudged": unjudged, "duration": duration, "quantity": quantity, "share": "{:.1%}".format}
    return environment.get_template("page.html.jinja").render(
        recipe=recipe,
        machine=run.read_json("machine.json"),
        recipe_yaml=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        stages=stages,
        lineage=Lineage.of(recipe["stages"], stages) if len(stages) > 1 else None,
        comparison=comparison,
        headline=_headline(stages, comparison, recipe.get("final")),
        finished=all(stage.finished for stage in stages),
        bill=bill,
        expenses=_expenses(bill) if bill else [],
        kept=written.get("kept", {}),
        reproduce=shlex.join(["longjing", "run", str(run.path / "recipe.yaml"), "--out", f"{run.path}-again"]),
        chat=shlex.join(["longjing", "chat", str(run.path)]) if talks else None,
    )


@dataclass(frozen=True)
class Headline:
    """What the run came to: a measurement before and after, and of what."""

    what: str
    before: Row
    after: Row

    @property
    def gain(self) -> float:
        """Percentage points."""
        return float(self.after["pass_at_1"] - self.before["pass_at_1"]) * 100


def _headline(stages: Sequence[Section], comparison: CheckpointComparison | None, final: str | None) -> Headline | None:
    """From the first checkpoint to the final one, on the first task; else of the last stage that measured both."""
    if comparison is not None:
        label, first, last = comparison.labels[0], comparison.checkpoints[0], comparison.checkpoints[-1]
        ends = [comparison.cells.get((name, label)) for name in (first, final or last)]
        before, after = ends
        if before and after and None not in (before["pass_at_1"], after["pass_at_1"]):
            return Headline(f"{label}, {first} and {final or last}", before, after)
    for stage in reversed(stages):
        if stage.before is not None and stage.after is not None:
            return Headline(f"{stage.after['task']}, before and after", stage.before, stage.after)
    return None


@dataclass(frozen=True)
class Expense:
    """A line of the bill: a stage with its measurements, or the total."""

    name: str
    work: Phase
    measuring: float
    kwh: str
    money: str


def _expenses(bill: Bill) -> list[Expense]:
    """The bill by stage; phases are named `stage` or `stage: what was measured`."""
    stages: dict[str, list[str]] = {}
    for phase in bill.phases:
        stages.setdefault(phase.partition(": ")[0], []).append(phase)
    lines = []
    for name, phases in {**stages, "total": list(bill.phases)}.items():
        work = sum((bill.phases[phase] for phase in phases), Phase())
        measuring = sum(bill.phases[phase].seconds for phase in phases if ": " in phase)
        kwh = significant(bill.prices.kwh(work.seconds))
        lines.append(Expense(name, work, measuring, kwh, bill.prices.amount(bill.prices.money(work.seconds))))
    return lines
