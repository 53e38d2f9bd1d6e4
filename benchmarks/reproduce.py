"""Does it hold here? What the papers claim, tried at our size, over several seeds.

    python benchmarks/reproduce.py r1-zero --seeds 0 1 2     # run a recipe's claims; runs are resumed or reused
    python benchmarks/reproduce.py r1-zero --seeds 3 --keep  # add a seed to those that the result has
    python benchmarks/reproduce.py --table                   # put all results into docs/reproduction.md

A verdict looks at the seeds: the mean difference between the two sides of a claim, with Student's 95% interval over
seeds. The claim holds if all of the interval lies on its side of zero, it doesn't if all lies on the other side, and
otherwise it can't be told.
"""

import json
import re
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from claims import CHANGES, CLAIMS, NEEDS, RECIPES, Claim, Pair, recipe_of
from common import measure_machine, report, run_recipe

# Student's 97.5% quantile, by degrees of freedom.
_QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
_DOCUMENT = Path(__file__).parent.parent / "docs" / "reproduction.md"


@dataclass(frozen=True)
class Outcome:
    """The mean difference over the seeds with its 95% interval, and what it says of the claim."""

    difference: float
    low: float
    high: float
    verdict: str


def judge(claim: Claim, pairs: list[Pair]) -> Outcome:
    """Hold a claim against its figures, a pair for each seed, two at least."""
    differences = [second - first for first, second in pairs]
    mean = fmean(differences)
    half = _QUANTILES[len(differences) - 1] * stdev(differences) / sqrt(len(differences))
    low, high = mean - half, mean + half
    if claim.expected == "other":  # says that nothing gets worse
        verdict = "doesn't hold" if high < 0 else "holds" if low > 0 else "can't be told"
    elif low > 0 or high < 0:
        verdict = "holds" if (mean > 0) == (claim.expected == "higher") else "doesn't hold"
    else:
        verdict = "can't be told"
    return Outcome(mean, low, high, verdict)


def main() -> None:
    names = list(dict.fromkeys(claim.recipe for claim in CLAIMS))
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("recipe", nargs="?", choices=names)
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options.add_argument("--runs", default="runs", help="where the runs lie")
    options.add_argument("--out", type=Path, help="default benchmarks/reproduction/RECIPE.json")
    options.add_argument("--keep", action="store_true", help="the result's other seeds stay in it")
    options.add_argument("--table", action="store_true", help="write the table of docs/reproduction.md")
    arguments = options.parse_args()
    if arguments.recipe:
        arguments.out = arguments.out or RECIPES / f"{arguments.recipe}.json"
        kept = _kept(arguments.out, arguments.seeds) if arguments.keep else []
        for seed in arguments.seeds:
            if missing := _missing(arguments.recipe, seed):
                options.error(f"{arguments.recipe} needs {missing[0]}, which this makes: {missing[1]}")
        results = [_run(arguments.recipe, seed, Path(arguments.runs)) for seed in arguments.seeds]
        results = sorted([*kept, *results], key=lambda result: result["seed"])
        report("reproduce", arguments, measure_machine(torch.device("cpu"), torch.float32, 2**20), results)
    if arguments.table:
        write_table()
    if not (arguments.recipe or arguments.table):
        options.error(f"say which recipe, of {', '.join(names)}, or --table")


def _kept(path: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """An earlier result's other seeds, each with the commit and the machine that it is from; none without a result."""
    if not path.exists():
        return []
    document = json.loads(path.read_text("utf-8"))
    birth = {"commit": document["commit"], "machine": document["machine"]["name"]}
    return [birth | result for result in document["results"] if result["seed"] not in seeds]


def _missing(recipe: str, seed: int) -> tuple[str, str] | None:
    """The run that has to be there first and isn't, and the command that makes it."""
    path, command = (text.format(seed=seed) for text in NEEDS.get(recipe, (".", "")))
    return None if Path(path).exists() else (path, command)


def _run(recipe: str, seed: int, runs: Path) -> dict[str, Any]:
    """Run one seed to its end; the figures of its claims, and its bill."""
    changes = [change.format(seed=seed) for change in CHANGES.get(recipe, [])]
    run = run_recipe(recipe_of(recipe), seed, runs / f"{recipe}-{seed}", changes)
    return {
        "seed": seed,
        "claims": {claim.says: claim.read(run) for claim in CLAIMS if claim.recipe == recipe},
        "measured": [
            {key: row[key] for key in ("checkpoint", "label", "pass_at_1", "low", "high", "language", "length_mean")}
            for row in run.checkpoints.rows()
        ],
        "bill": run.read_json("bill.json"),
    }


def rows() -> list[str]:
    """The table's lines, one for each claim that has been tried."""
    lines = []
    for claim in CLAIMS:
        path = RECIPES / f"{claim.recipe}.json"
        if not path.exists():
            continue
        document = json.loads(path.read_text("utf-8"))
        pairs = [tuple(result["claims"][claim.says]) for result in document["results"]]
        outcome = judge(claim, pairs)
        sides = " -> ".join(
            f"{name} {fmean(pair[side] for pair in pairs):{claim.unit}}" for side, name in enumerate(claim.sides)
        )
        difference, low, high = (f"{value:+{claim.unit}}" for value in (outcome.difference, outcome.low, outcome.high))
        source = f"[`reproduce.py {claim.recipe}`](../benchmarks/reproduction/{claim.recipe}.json)"
        cells = (
            claim.says,
            claim.paper,
            claim.what,
            sides,
            f"{difference} ({low} to {high})",
            str(len(pairs)),
            source,
            outcome.verdict,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_table() -> None:
    """Put the table between its two marks in the document."""
    head = ["| claim | published | here | mean of the seeds | difference (95%) | seeds | command, result | verdict |"]
    table = "\n".join([*head, "|" + " --- |" * 8, *rows()])
    text = _DOCUMENT.read_text("utf-8")
    marked = re.compile(r"(?<=<!-- table -->\n).*?(?=\n<!-- end -->)", re.DOTALL)
    _DOCUMENT.write_text(marked.sub(lambda _: table, text), encoding="utf-8")


if __name__ == "__main__":
    main()
