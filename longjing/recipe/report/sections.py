"""What the report shows of one stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longjing.learning.advice import Advice, diagnose, values_of
from longjing.learning.kinds import KINDS
from longjing.runs import StageDirectory
from longjing.runs.charts import Chart
from longjing.runs.curves import curves
from longjing.runs.figures import steps_done, steps_planned
from longjing.runs.jsonl import Row
from longjing.text.reasoning import Parsed, parse


@dataclass(frozen=True)
class Sample:
    """One completion of a problem, taken apart. `outcome`: correct, wrong or unjudged. `turns`: the model's, each with
    what the task said to it, if it did."""

    turns: list[tuple[Parsed, str]]
    outcome: str
    reward: float | None = None
    advantage: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Sample":
        turns = [(_parsed(turn), str(turn["reply"].get("content", ""))) for turn in row.get("earlier", [])]
        return cls([*turns, (_parsed(row), "")], row["outcome"], row.get("reward"), row.get("advantage"))


def _parsed(row: Mapping[str, Any]) -> Parsed:
    # Logs that don't say are of R1's form: the prompt opens the reasoning, where the text doesn't.
    prefilled = row.get("prefilled", not row["text"].lstrip().startswith("<think>"))
    return parse(row["text"], prefilled)


@dataclass(frozen=True)
class Section:
    """`gate`: what gate.json holds. `facts`: what was kept and what wasn't, of a stage that makes data."""

    name: str
    kind: str
    done: int
    steps: int | None
    finished: bool
    gate: Mapping[str, Any] | None
    facts: list[tuple[str, str]]
    group_note: str
    charts: list[Chart]
    advice: list[Advice]
    evaluations: list[Row]
    before: Row | None
    after: Row | None
    pairs: list[tuple[str, Sample, Sample]]
    group: Row | None
    group_samples: list[Sample]

    @classmethod
    def of(cls, stage: StageDirectory, settings: Mapping[str, Any], allowed: float) -> "Section":
        """What the report shows of a stage. `allowed`: the difference between engine and trainer that is rounding."""
        rows, kind = stage.metrics.rows(), KINDS[settings["kind"]]
        # A stage that was killed between a measurement and its end measures again: the last one counts.
        evaluations = list({_measured(row): row for row in stage.evaluations.rows()}.values())
        before, after = _ends(evaluations)
        group = next(iter(stage.rollouts.last(1)), None)
        return cls(
            name=stage.name,
            kind=kind.name,
            done=steps_done(rows),
            steps=steps_planned(kind.steps(settings), rows),
            finished=stage.result is not None,
            gate=stage.run.read_json(f"{stage.name}/gate.json"),
            facts=kind.facts(stage.result or {}),
            group_note=kind.group_note,
            charts=curves(kind.charts, rows, evaluations, allowed * max(values_of(rows, "rounding"), default=1)),
            advice=diagnose(kind.advice, rows, allowed),
            evaluations=evaluations,
            before=before,
            after=after,
            pairs=_pairs(before, after) if before and after else [],
            group=group,
            group_samples=[Sample.of(each) for each in group["completions"][:8]] if group else [],
        )


def _measured(row: Row) -> tuple[int, str, str]:
    """What was measured when: the step, the split, and the task with its settings."""
    return row["step"], row["split"], f"{row['task']} {row.get('settings')}"


def _ends(evaluations: list[Row]) -> tuple[Row | None, Row | None]:
    """The first and the last measurement of the task that was measured first, on the test split."""
    test = [row for row in evaluations if row["split"] == "test" and row.get("pass_at_1") is not None]
    test = [row for row in test if _measured(row)[1:] == _measured(test[0])[1:]]
    return (test[0], test[-1]) if len(test) > 1 else (None, None)


def _pairs(before: Row, after: Row) -> list[tuple[str, Sample, Sample]]:
    """The problems that both measurements show, in the order of the test set: nothing is picked."""
    later = {example["problem"]: example for example in after["examples"]}
    return [
        (example["prompt"], Sample.of(example), Sample.of(later[example["problem"]]))
        for example in before["examples"]
        if example["problem"] in later
    ]
