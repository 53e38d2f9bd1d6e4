"""What a run of a recipe came to: every checkpoint on every task, the gates and the bill, as one committed file.

longjing run r1 --set threads=1
python benchmarks/recipe.py runs/r1 --out benchmarks/results/r1.json
"""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import torch
from common import measure_machine, report

from longjing.runs import RunDirectory


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def main() -> None:
    options = ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run", type=Path)
    options.add_argument("--out", type=Path)
    arguments = options.parse_args()
    run = RunDirectory(arguments.run)
    rows = [without(row, "examples", "step") for row in run.checkpoints.rows()]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    print("| checkpoint |", " | ".join(labels), "|")
    for name in dict.fromkeys(row["checkpoint"] for row in rows):
        cells = {row["label"]: row for row in rows if row["checkpoint"] == name}
        figures = (f"{cell['pass_at_1']:.1%} ({cell['low']:.1%} to {cell['high']:.1%})" for cell in cells.values())
        print(f"| {name} |", " | ".join(figures), "|")
    if arguments.out:
        gates = {stage.name: run.read_json(f"{stage.name}/gate.json") for stage in run.stages()}
        results = {
            "recipe": run.recipe(),
            "checkpoints": rows,
            "evaluations": {
                stage.name: [without(row, "examples") for row in stage.evaluations.rows()] for stage in run.stages()
            },
            "gates": gates,
            "bill": run.read_json("bill.json"),
        }
        arguments.run = str(arguments.run)
        report("recipe", arguments, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


if __name__ == "__main__":
    main()
