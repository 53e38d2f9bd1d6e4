"""Does reinforcement learning teach a base anything? The recipe `r1-zero`, or another of one stage, over several seeds.

    python benchmarks/learning.py --seeds 0 1 2 --out benchmarks/results/learning.json
    python benchmarks/learning.py --recipe benchmarks/reproduction/code.yaml --out benchmarks/results/code.json

Runs are resumed or reused if they are there. Accuracy is on the recipe's held-out test problems, several samples
each, with 95% intervals over problems; the rise is paired by problem. Before a claim, every seed's rise must lie
outside its interval.
"""

from argparse import ArgumentParser
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from common import measure_machine, report, run_recipe

from longjing.runs.jsonl import Row

CURVES = ("accuracy", "reward", "length_mean", "reflection", "entropy", "zero_variance_groups", "truncated")


def main() -> None:
    options = ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--recipe", default="r1-zero")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--runs", default="runs", help="where the runs lie")
    options.add_argument("--set", dest="changes", action="append", default=[], help="as for `longjing run`")
    options.add_argument("--out", type=Path)
    arguments = options.parse_args()
    results = [
        run(arguments.recipe, seed, Path(f"{arguments.runs}/{Path(arguments.recipe).stem}-{seed}"), arguments.changes)
        for seed in arguments.seeds
    ]
    for row in results:
        before, after = row["before"], row["after"]
        print(
            f"seed {row['seed']}: {before['pass_at_1']:.1%} ({before['low']:.1%} to {before['high']:.1%}) -> "
            f"{after['pass_at_1']:.1%} ({after['low']:.1%} to {after['high']:.1%}), "
            f"majority of {after['samples']}: {before['maj_at_k']:.1%} -> {after['maj_at_k']:.1%}, "
            f"length {before['length_mean']:.0f} -> {after['length_mean']:.0f}, "
            f"engine against trainer at most {row['logprob_difference']:.1e}, {row['seconds'] / 60:.1f} minutes"
        )
    print(f"mean rise {fmean(row['rise'] for row in results):.1%}")
    if arguments.out:
        report("learning", arguments, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)


def run(recipe: str, seed: int, out: Path, changes: list[str]) -> dict[str, Any]:
    """Run one seed to its end, and read what it wrote."""
    (stage,) = run_recipe(recipe, seed, out, changes).stages()
    metrics, evaluations = stage.metrics.rows(), stage.evaluations.rows()
    tests = [without_examples(row) for row in evaluations if row["split"] == "test"]
    result = stage.result
    assert result is not None and len(tests) == 2
    return {
        "seed": seed,
        "before": tests[0],
        "after": tests[1],
        "rise": tests[1]["pass_at_1"] - tests[0]["pass_at_1"],
        "validation": [[row["step"], row["pass_at_1"]] for row in evaluations if row["split"] == "validation"],
        "seconds": result["time"],
        "result": result,
        "logprob_difference": max(row.get("logprob_difference", 0.0) for row in metrics),
        "curves": {name: [round(row[name], 4) for row in metrics] for name in CURVES},
        "tokens_per_second": {
            phase: fmean(row[f"tokens_per_second_{phase}"] for row in metrics) for phase in ("sampling", "updating")
        },
    }


def without_examples(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "examples"}


if __name__ == "__main__":
    main()
