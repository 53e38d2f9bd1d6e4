"""What the papers claim, and where our runs say whether it holds: each claim reads two figures from a run.

A claim belongs to a recipe, one of `reproduction/` or of the package, that is run with several seeds. `read` takes
the run of one seed and returns the figure without the thing in question, or before it, and the figure with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from longjing.runs import RunDirectory
from longjing.runs.jsonl import Row

Pair = tuple[float, float]
LAST = 10  # steps over which noisy figures are averaged


@dataclass(frozen=True)
class Claim:
    """`says` in one sentence; `paper`: the published figure; `sides`: what the two figures are of; `expected`: where
    the second lies if the claim holds; `unit`: how a figure is written (a format, `%` for shares)."""

    recipe: str
    says: str
    paper: str
    sides: tuple[str, str]
    what: str
    expected: Literal["higher", "lower", "other"]
    read: Callable[[RunDirectory], Pair]
    unit: str = ".1%"


def before_and_after(stage: str, figure: str) -> Callable[[RunDirectory], Pair]:
    """A figure of the stage's own measurements on the test problems."""

    def read(run: RunDirectory) -> Pair:
        first, last = (row for row in run.stage(stage).evaluations.rows() if row["split"] == "test")
        return first[figure], last[figure]

    return read


def checkpoints(label: str, figure: str, without: str, with_it: str) -> Callable[[RunDirectory], Pair]:
    """A figure of two checkpoints of the run's table; a name may begin with `*`, and then ends so."""

    def read(run: RunDirectory) -> Pair:
        rows = [row for row in run.checkpoints.rows() if row["label"] == label]
        return _named(rows, without)[figure], _named(rows, with_it)[figure]

    return read


def ends(figure: str, without: str, with_it: str) -> Callable[[RunDirectory], Pair]:
    """A figure of two stages' logs, over the last steps."""
    return lambda run: (_end(run, without, figure), _end(run, with_it, figure))


def _end(run: RunDirectory, stage: str, figure: str) -> float:
    return fmean(row[figure] for row in run.stage(stage).metrics.rows()[-LAST:] if figure in row)


def _named(rows: list[Row], name: str) -> Row:
    return next(
        row for row in rows if row["checkpoint"] == name or (name.startswith("*") and name[1:] in row["checkpoint"])
    )


def _reflection(run: RunDirectory) -> Pair:
    rows = run.stage("r1-zero").metrics.rows()
    return fmean(row["reflection"] for row in rows[:5]), fmean(row["reflection"] for row in rows[-5:])


def _majority(run: RunDirectory) -> Pair:
    last = [row for row in run.stage("r1-zero").evaluations.rows() if row["split"] == "test"][-1]
    return last["pass_at_1"], last["maj_at_k"]


def _readable(run: RunDirectory) -> Pair:
    """The share of samples that the cold start's own filter would take, right or wrong."""
    before, after = (run.stage(name).result for name in ("readable-before", "readable-after"))
    assert before is not None and after is not None
    return before["kept"] / before["sampled"], after["kept"] / after["sampled"]


def _distillation_costs(run: RunDirectory) -> Pair:
    """FLOPs of the reinforcement, and of the distillation with the samples that it reads."""
    results = {name: run.stage(name).result or {} for name in ("reinforced", "samples", "distilled")}
    costs = {name: float(result["flops"]) for name, result in results.items()}
    return costs["reinforced"], costs["samples"] + costs["distilled"]


def _wrong_lengths(run: RunDirectory) -> Pair:
    """Mean tokens of the wrong completions of the last steps."""

    def mean(stage: str) -> float:
        rows = run.stage(stage).rollouts.rows()
        late = rows[-1]["step"] - LAST
        return fmean(len(c["tokens"]) for c in _completions(rows, late) if c["outcome"] == "wrong")

    return mean("no-deviation"), mean("dr-grpo")


def _completions(rows: list[Row], after: int = -1) -> Iterator[dict[str, Any]]:
    return (completion for row in rows if row["step"] > after for completion in row["completions"])


def _extreme_mass(run: RunDirectory) -> Pair:
    """The share of all advantages, in absolute terms, on problems that one or two of eight get right or wrong."""

    def share(stage: str) -> float:
        inner = outer = 0.0
        for row in run.stage(stage).rollouts.rows():
            right = fmean(completion["outcome"] == "correct" for completion in row["completions"])
            mass = sum(abs(completion["advantage"]) for completion in row["completions"])
            if 0.25 < right < 0.75:
                inner += mass
            else:
                outer += mass
        return outer / (inner + outer)

    return share("no-deviation"), share("grpo")


def _accepted(run: RunDirectory) -> Pair:
    """The share of drafts that are accepted while the network solves held-out problems, against the paper's least."""
    import longjing
    from longjing import tasks
    from longjing.evaluation import evaluate
    from longjing.generation.native import Engine

    network, tokenizer = longjing.load(run.stage("full").model_path)
    engine = Engine(network, tokenizer, speculate=True)
    task = tasks.get("countdown", difficulty=2)
    evaluate(engine, tokenizer, task, problems=50, samples=1, seed=0, max_tokens=256)
    return 0.85, engine.stats.acceptance


_REINFORCED = ("before", "after reinforcement")
CLAIMS = [
    Claim(
        "r1-zero", "Reinforcement from rules alone raises accuracy", "AIME 2024, pass@1: 15.6% to 77.9%",
        _REINFORCED, "pass@1", "higher", before_and_after("r1-zero", "pass_at_1"),
    ),
    Claim(
        "r1-zero", "Completions grow longer with it", "hundreds to some ten thousand tokens",
        _REINFORCED, "tokens of a completion", "higher", before_and_after("r1-zero", "length_mean"), ".0f",
    ),
    Claim(
        "r1-zero", "Words of reflection become more frequent", "five to seven times as many",
        ("first five steps", "last five"), "words of reflection in a completion", "higher", _reflection, ".2f",
    ),
    Claim(
        "r1-zero", "Majority voting adds to it", "AIME 2024: 77.9% to 86.7% (of 64)",
        ("pass@1", "majority of 4"), "accuracy", "higher", _majority,
    ),
    Claim(
        "code", "So does it where answers are programs, and rewards the verdicts of hidden tests",
        "stated, without the base's figure", _REINFORCED, "pass@1", "higher", before_and_after("r1-zero", "pass_at_1"),
    ),
    Claim(
        "cold-start", "The cold start makes R1-Zero's language consistent", "stated, without a figure",
        ("R1-Zero", "cold start"), "share of the problem's language", "higher",
        checkpoints("countdown", "language", "*r1-zero", "cold-start"),
    ),
    Claim(
        "cold-start", "The cold start makes R1-Zero readable", "stated, without a figure",
        ("R1-Zero", "cold start"), "samples that are closed, in one language, without repetition", "higher", _readable,
    ),
    Claim(
        "cold-start", "It costs reasoning at first", "AIME 2024: 77.9% to 59.0%",
        ("R1-Zero", "cold start"), "pass@1", "lower", checkpoints("countdown", "pass_at_1", "*r1-zero", "cold-start"),
    ),
    Claim(
        "language", "The language reward lowers mixing", "a curve, without a figure",
        ("without", "with"), "share of the problem's language", "higher",
        checkpoints("mixture", "language", "without", "with"),
    ),
    Claim(
        "language", "and costs a little accuracy", "slight", ("without", "with"), "pass@1", "lower",
        checkpoints("mixture", "pass_at_1", "without", "with"),
    ),
    Claim(
        "distillation", "Distilling the large model beats reinforcement on the small one at equal compute",
        "AIME 2024, 32B: 72.6% against 47.0%", ("reinforced", "distilled"), "pass@1", "higher",
        checkpoints("mixture", "pass_at_1", "reinforced", "distilled"),
    ),
    Claim(
        "distillation", "where it costs no more, the large model's samples counted", "stated",
        ("reinforced", "distilled"), "FLOPs", "lower", _distillation_costs, ".2e",
    ),
    Claim(
        "distillation", "and where it goes on to three times as many steps", "stated",
        ("reinforced longer", "distilled"), "pass@1", "higher",
        checkpoints("mixture", "pass_at_1", "reinforced-longer", "distilled"),
    ),
    Claim(
        "dr-grpo", "Dividing by its own length makes a wrong completion longer (Dr. GRPO)", "a curve",
        ("divided", "not divided"), "tokens of a wrong completion, at the end", "lower", _wrong_lengths, ".0f",
    ),
    Claim(
        "dr-grpo", "Dividing by the deviation favours too easy and too hard problems (Dr. GRPO)", "stated",
        ("not divided", "divided"), "share of the advantages on them", "higher", _extreme_mass,
    ),
    Claim(
        "dr-grpo", "Dr. GRPO is no less accurate than GRPO", "a curve", ("GRPO", "Dr. GRPO"), "pass@1", "other",
        lambda run: (
            before_and_after("grpo", "pass_at_1")(run)[1], before_and_after("dr-grpo", "pass_at_1")(run)[1]
        ),
    ),
    Claim(
        "preference", "A preference reward for too long raises its own score", "a curve",
        ("last quarter", "throughout"), "score, at the end", "higher",
        ends("reward_helpfulness", "late", "throughout"), ".3f",
    ),
    Claim(
        "preference", "while what it stands for gets worse: it is hacked", "Codeforces falls; a curve",
        ("last quarter", "throughout"), "pass@1", "lower", checkpoints("mixture", "pass_at_1", "late", "throughout"),
    ),
    Claim(
        "architecture", "Predicting a further token makes the network better (DeepSeek-V3)",
        "better on most benchmarks", ("without", "with"), "loss, nats a token", "lower",
        ends("loss", "no-mtp", "full"), ".4f",
    ),
    Claim(
        "architecture", "85 to 90% of its drafts are accepted (DeepSeek-V3)", "85% to 90%",
        ("the paper's least", "here"), "accepted drafts", "higher", _accepted,
    ),
    Claim(
        "architecture", "Balancing by biases costs less than by an auxiliary loss (arXiv 2408.15664)",
        "perplexity 9.56 to 9.50 at 1B", ("auxiliary loss", "biases"), "loss, nats a token", "lower",
        ends("loss", "auxiliary-loss", "full"), ".4f",
    ),
    Claim(
        "architecture", "and balances better", "MaxVio 0.72 to 0.04", ("auxiliary loss", "biases"),
        "load of the busiest expert, 1 is even", "lower", ends("load_max", "auxiliary-loss", "full"), ".2f",
    ),
    Claim(
        "architecture", "Without either, experts are loaded unevenly", "stated", ("neither", "biases"),
        "load of the busiest expert, 1 is even", "lower", ends("load_max", "unbalanced", "full"), ".2f",
    ),
    Claim(
        "architecture", "Experts beat a dense network of equal FLOPs (DeepSeekMoE)", "stated",
        ("dense", "experts"), "loss, nats a token", "lower", ends("loss", "dense", "no-mtp"), ".4f",
    ),
]  # fmt: skip

# What differs from seed to seed beside the seed.
CHANGES = {"cold-start": ["data.model=runs/r1-zero-{seed}", "readable-before.model=runs/r1-zero-{seed}"]}
# What has to be there before a recipe's runs, and the command that makes it.
NEEDS = {
    "cold-start": ("runs/r1-zero-{seed}", "python benchmarks/reproduce.py r1-zero --seeds {seed}"),
    "code": ("runs/code-base", "longjing run benchmarks/reproduction/code-base.yaml --out runs/code-base"),
}
RECIPES = Path(__file__).parent / "reproduction"


def recipe_of(name: str) -> str:
    """A recipe of ours by its file, one of the package by its name."""
    path = RECIPES / f"{name}.yaml"
    return str(path) if path.exists() else name
