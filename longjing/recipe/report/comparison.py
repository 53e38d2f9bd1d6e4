"""All checkpoints on all tasks, and the same problems answered by each of them, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from longjing.recipe.report.sections import Sample
from longjing.runs.jsonl import Row


@dataclass(frozen=True)
class Answered:
    """One problem, and each checkpoint's first sample."""

    label: str
    prompt: str
    samples: list[tuple[str, Sample]]


@dataclass(frozen=True)
class CheckpointComparison:
    """`cells`: what was measured, by checkpoint and label. `procedure`: how, in words."""

    checkpoints: list[str]
    labels: list[str]
    cells: dict[tuple[str, str], Row]
    answered: list[Answered]
    procedure: str

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "CheckpointComparison | None":
        """The comparison of checkpoints, from the rows of checkpoints.jsonl; None if there are none."""
        if not rows:
            return None
        # The models that a run began with stand first, whenever they were measured.
        checkpoints = list(dict.fromkeys(row["checkpoint"] for row in sorted(rows, key=lambda row: row["step"])))
        labels = list(dict.fromkeys(row["label"] for row in rows))
        cells = {(row["checkpoint"], row["label"]): row for row in rows}
        sampling = rows[0]["sampling"]
        procedure = (
            f"{rows[0]['problems']} test problems of each task, {rows[0]['samples']} samples of each, temperature "
            f"{sampling['temperature']:g}, top-p {sampling['top_p']:g}, at most {sampling['max_tokens']} tokens. "
            "The same problems for every checkpoint; 95% intervals over problems."
        )
        return cls(checkpoints, labels, cells, _answered(checkpoints, labels, cells), procedure)


def _answered(checkpoints: list[str], labels: list[str], cells: dict[tuple[str, str], Row]) -> list[Answered]:
    result = []
    for label in labels:
        rows = {name: cells[name, label] for name in checkpoints if (name, label) in cells}
        first = next(iter(rows.values()))
        for example in first["examples"]:
            samples = [
                (name, Sample.of(other))
                for name, row in rows.items()
                for other in row["examples"]
                if other["problem"] == example["problem"]
            ]
            result.append(Answered(label, example["prompt"], samples))
    return result
