"""Gates: what a stage must have reached before the next one begins.

    gate: {metric: pass_at_1, task: countdown, at_least: 0.5, rise_at_least: 0.1}

A stage has one, or a list of them, all of which must hold. With a `task`, the metric is one of a measurement on
held-out problems: of the recipe's `measure` if that has a task of this name, else of the stage's own. Without, it is a
figure of the stage's result.json, or else of its metrics.jsonl, of which the last ten steps count. A rise is over the
model that the stage began with, or over its first ten steps, and so of a figure that the steps have.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from longjing.errors import UserError
from longjing.evaluation.result import SHARES
from longjing.learning.advice import WINDOW
from longjing.learning.kinds import KINDS
from longjing.runs import RunDirectory, StageDirectory, migration
from longjing.runs.jsonl import Row
from longjing.runs.metric import Metric


class Gate(BaseModel):
    """A measured condition. Whatever of the three bounds is given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: Annotated[str, AfterValidator(migration.gate_metric)]
    task: str | None = Field(None, description="of `measure`, or of the stage's own measurements")
    at_least: float | None = None
    at_most: float | None = None
    rise_at_least: float | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.at_least is self.at_most is self.rise_at_least is None:
            raise ValueError("a gate asks for at_least, at_most or rise_at_least; this one lets all pass")
        return self


# Told apart by their form, so that what is wrong inside of one is all that is complained of.
Gates = Annotated[
    Annotated[Gate, Tag("one")] | Annotated[list[Gate], Field(min_length=1), Tag("several")],
    Discriminator(lambda entry: "several" if isinstance(entry, list) else "one"),
]


def listed(gates: Gates | None) -> list[Gate]:
    return gates if isinstance(gates, list) else [] if gates is None else [gates]


class GateClosed(Exception):
    """A stage didn't reach what its gate asks for. The message is for the person."""


@dataclass(frozen=True)
class Reading:
    """What a gate looks at. `low` and `high`: its 95% interval, where it has one. None: it can't be told."""

    value: float | None
    before: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class GateResult:
    """How a gate was passed or not, in words and figures."""

    passed: bool
    text: str
    reading: Reading


def pass_gate(run: RunDirectory, stage: Mapping[str, Any], gates: Gates) -> str:
    """Examine the gates of a finished stage (its settings as plain data), write RUN/STAGE/gate.json, and say how they
    were passed. Of a list the file has each gate, and whether all were passed.

    Raises GateClosed, which names those that the stage has not reached, UserError if there is no such metric.
    """
    name, outcomes, failed = stage["name"], [], []
    for gate in listed(gates):
        outcome = examine(gate, read(gate, run.stage(name), stage.get("model")), KINDS[stage["kind"]].metrics)
        outcomes.append(asdict(outcome) | {"gate": gate.model_dump(exclude_none=True)})
        if not outcome.passed:
            failed.append(outcome.text)
    text = ".\n".join(failed or [each["text"] for each in outcomes])
    record = {"passed": not failed, "text": text, "gates": outcomes} if isinstance(gates, list) else outcomes[0]
    run.write_json(f"{name}/gate.json", record)
    if failed:
        raise GateClosed(
            f"{name} did not pass its gate: {text}.\nNo later stage was begun. Look into "
            f"{run.path / 'report.html'}; then change its gate, or delete {run.path / name} and change the stage, and "
            "give the same command: what is finished is not done again."
        )
    return text


def examine(gate: Gate, reading: Reading, metrics: Sequence[Metric] = ()) -> GateResult:
    """Hold a reading against the bounds. A rise that can't be told isn't one. `metrics`: how the stage's numbers are
    written."""
    value, before, bounds = reading.value, reading.before, []
    written = [metric.name for metric in metrics if "%" in metric.form] if gate.task is None else [*SHARES, "language"]
    shown = ("{:.1%}" if gate.metric in written else "{:.4g}").format
    if (least := gate.at_least) is not None:
        bounds.append((value is not None and value >= least, f"at least {shown(least)}"))
    if (most := gate.at_most) is not None:
        bounds.append((value is not None and value <= most, f"at most {shown(most)}"))
    if (rise := gate.rise_at_least) is not None:
        met = value is not None and before is not None and value - before >= rise
        way = "up by at least" if rise >= 0 else "down by at most"
        bounds.append((met, f"{way} {shown(abs(rise))}"))
    what = gate.metric if gate.task is None else f"{gate.metric} on {gate.task}"
    wanted = " and ".join(text for _, text in bounds)
    return GateResult(
        all(met for met, _ in bounds), f"{what} is {_described(gate, reading, shown)}; it must be {wanted}", reading
    )


def read(gate: Gate, stage: StageDirectory, origin: Any) -> Reading:
    """The gate's metric from the logs of a finished stage that began with the checkpoint called `origin`.

    Raises UserError, naming the metrics that there are, if it wasn't measured.
    """
    if gate.task is not None:
        return _read_measurement(gate, stage, origin)
    result = stage.result or {}
    if gate.metric in numbers(result) and gate.rise_at_least is None:  # the result has no figure of the beginning
        interval = (result.get("low"), result.get("high")) if gate.metric == "accuracy" else (None, None)
        return Reading(result[gate.metric], None, *interval)
    rows = stage.metrics.rows()
    values = [row[gate.metric] for row in rows if gate.metric in numbers(row)]
    if not values:
        raise UserError(_unknown(gate, stage, [result, *rows[-1:]]))
    window = min(WINDOW, (len(values) + 1) // 2)
    return Reading(fmean(values[-window:]), fmean(values[:window]))


def _read_measurement(gate: Gate, stage: StageDirectory, origin: Any) -> Reading:
    table = [row for row in stage.run.checkpoints.rows() if row["label"] == gate.task]
    own = [row for row in stage.evaluations.rows() if (row["task"], row["split"]) == (gate.task, "test")]
    after = next((row for row in reversed(table) if row["checkpoint"] == stage.name), None)
    before = next((row for row in table if row["checkpoint"] == origin), None)
    if after is None and own:
        after, before = own[-1], own[0] if len(own) > 1 else None
    if after is None or gate.metric not in after or isinstance(after[gate.metric], str | dict | list):
        raise UserError(_unknown(gate, stage, [after or {}]))
    interval = (after["low"], after["high"]) if gate.metric == "pass_at_1" else (None, None)
    return Reading(after[gate.metric], before[gate.metric] if before else None, *interval)


def _unknown(gate: Gate, stage: StageDirectory, rows: list[Row]) -> str:
    names = sorted({key for row in rows for key in numbers(row)})
    if gate.metric in names:
        return f"the gate of {stage.name} asks for a rise of `{gate.metric}`, of which there is only the end"
    on = f" on {gate.task}" if gate.task is not None else ""
    measured = f"measured were {', '.join(names)}" if names else "nothing of the kind was measured"
    return f"the gate of {stage.name} asks for `{gate.metric}`{on}, which it doesn't have; {measured}"


def numbers(row: Row) -> dict[str, float]:
    """What of a line of the logs a gate can ask for."""
    return {key: value for key, value in row.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def _described(gate: Gate, reading: Reading, shown: Callable[[float], str]) -> str:
    if reading.value is None:
        return "not known, since nothing was solved"
    text = shown(reading.value)
    if reading.low is not None and reading.high is not None:
        text += f" (95%: {shown(reading.low)} to {shown(reading.high)})"
    if gate.rise_at_least is not None:
        text += f", from {shown(reading.before)}" if reading.before is not None else ", from nobody knows what"
    return text
