"""Every checkpoint of a run, measured on the same problems of the same tasks: one line each in checkpoints.jsonl."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.evaluation import Evaluation, evaluate
from longjing.files import to_json
from longjing.generation.factory import make_generator
from longjing.generation.generator import Generator
from longjing.planning import flops
from longjing.problems.language import consistency
from longjing.recipe.schema import MeasureSettings
from longjing.runs import RunDirectory
from longjing.runs.directory import differences
from longjing.runs.figures import unjudged
from longjing.runs.jsonl import Row
from longjing.runs.models import load
from longjing.tasks import Task


def measure(
    settings: MeasureSettings,
    run: RunDirectory,
    checkpoint: str,
    model: Path,
    runtime: Runtime,
    *,
    step: int,
    say: Callable[[str], None],
    watcher: Callable[[int, int, int], None],
) -> None:
    """Measure the checkpoint on those tasks on which it wasn't yet. `step`: its stage's place in the recipe. `watcher`:
    as in `Generator`.

    Raises UserError if another checkpoint was measured on other problems.
    """
    rows = run.checkpoints.rows()
    measured = {(row["checkpoint"], row["label"]) for row in rows}
    tasks = {label: settings.task(label) for label in settings.tasks if (checkpoint, label) not in measured}
    if not tasks:
        return
    for label, task in tasks.items():
        _refuse_other_problems(
            run, f"{checkpoint} on {label}", task, [row for row in rows if row["label"] == label], say
        )
    network, tokenizer = load(model, runtime.device)
    generator: Generator = make_generator(network, tokenizer, dtype=runtime.dtype)
    generator.watcher = watcher
    for label, task in tasks.items():
        evaluation = evaluate(
            generator, tokenizer, task, problems=settings.problems, samples=settings.samples,
            seed=runtime.seed, temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens,
            flops=partial(flops.generation, network.config),
        )  # fmt: skip
        row: dict[str, Any] = {"step": step, "checkpoint": checkpoint, "label": label, **evaluation.summary()}
        row |= {"language": language(evaluation), "examples": evaluation.examples(3)}
        run.checkpoints.append(row)
        say(f"{checkpoint} on {label}: {row['pass_at_1']:.1%} right{unjudged(row)}")


def _refuse_other_problems(
    run: RunDirectory, what: str, task: Task, rows: Sequence[Row], say: Callable[[str], None]
) -> None:
    """Rows from before a setting came that chooses no problems are taken, and it is said that they are."""
    now = {"task": task.name} | json.loads(to_json(task.settings))
    judge_settings: frozenset[str] = getattr(task, "judge_settings", frozenset())
    for row in rows:
        then = {"task": row["task"]} | row["settings"]
        came = [name for name in sorted(judge_settings) if f'"{name}":' not in to_json(then)]
        if came:
            say(
                f"{what}: {row['checkpoint']} was measured before {' and '.join(came)} was a setting, perhaps by "
                f"another rule; delete {run.checkpoints.path}, and all are measured by one"
            )
        if changed := differences(then, _without(now, came)):
            raise UserError(
                f"{what}: {row['checkpoint']} was measured on other problems, and the two can't be compared:\n  "
                + "\n  ".join(changed)
                + f"\nbring the old ones back, or delete {run.checkpoints.path}, and all are measured again"
            )


def _without(settings: Any, names: Sequence[str]) -> Any:
    """Settings, and those of a mixture's parts, without those names."""
    if isinstance(settings, list):
        return [_without(each, names) for each in settings]
    if isinstance(settings, dict):
        return {key: _without(value, names) for key, value in settings.items() if key not in names}
    return settings


def language(evaluation: Evaluation) -> float:
    """The share of each problem's own language in the words of the reasoning (of the answer, where there is none),
    mean over first samples; 0 for silence."""
    return fmean(consistency(each.parts.reasoning, each.parts.answer, each.language) for each in evaluation.records)
