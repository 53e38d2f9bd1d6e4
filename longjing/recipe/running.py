"""Running a recipe: its stages in order, each from wherever it stands, then the bill and the report."""

from pathlib import Path

import torch
from rich.console import Console

from longjing import tasks
from longjing.learning.pretraining import pretrain
from longjing.learning.reinforcement import reinforce
from longjing.model.device import keep_freed_memory
from longjing.model.files import resolve
from longjing.planning.bill import Bill
from longjing.recipe.diagnosis import tolerance
from longjing.recipe.progress import StageProgress
from longjing.recipe.report import write_report
from longjing.recipe.schema import Pretrain, Recipe, Reinforce
from longjing.runs import RunDirectory, StageDirectory
from longjing.tasks import Task


def run_recipe(recipe: Recipe, out: Path, console: Console) -> None:
    """Run what is left of the recipe in the run directory `out`.

    Finished stages are skipped, an unfinished one goes on where it was saved. Bill and report are written at
    the end, and when the run is interrupted (KeyboardInterrupt is passed on). Raises UserError.
    """
    recipe = recipe.here()
    assert recipe.threads is not None
    torch.set_num_threads(recipe.threads)
    device, dtype = torch.device(recipe.device), getattr(torch, recipe.dtype)
    if device.type == "cpu":
        keep_freed_memory()
    allowed = tolerance(recipe.device, recipe.dtype)
    run = RunDirectory(out)
    models: dict[str, Path] = {}
    for stage in recipe.stages:
        if isinstance(stage, Reinforce) and stage.model not in models:
            resolve(stage.model)  # refused now rather than after the stages before it
        models[stage.name] = run.stage(stage.name).model_path
    with run.writing(recipe.to_dict()):
        try:
            for stage in recipe.stages:
                if run.stage(stage.name).result is not None:
                    console.print(f"{stage.name}: finished already")
                    continue
                rows = run.stage(stage.name).metrics.rows()
                progress = StageProgress(console, stage.name, stage.kind, stage.steps, rows, allowed)
                directory = run.stage(stage.name, progress)
                with progress.shown():
                    if isinstance(stage, Pretrain):
                        pretrain(stage, directory, seed=recipe.seed, device=device, dtype=dtype)
                    else:
                        start = str(models.get(stage.model, stage.model))
                        stage = stage.model_copy(update={"model": start})
                        reinforce(stage, directory, seed=recipe.seed, device=device, dtype=dtype)
        except KeyboardInterrupt:
            account(run)
            raise
        account(run)


def account(run: RunDirectory) -> None:
    """Write the bill and the report of what there is so far."""
    bill = Bill()
    for stage in run.stages():
        _charge(bill, stage)
    run.write_json("bill.json", bill.to_dict())
    write_report(run)


def _charge(bill: Bill, stage: StageDirectory) -> None:
    """Add up what a stage's logs say it used."""
    rows, measured = stage.metrics.rows(), stage.evaluations.rows()
    if rows and "tokens" in rows[-1]:  # pretraining logs running totals
        last = rows[-1]
        bill.add(stage.name, tokens_trained=last["tokens"], flops=last["flops"], seconds=last["time"])
    elif rows:
        sampled, trained, flops = (
            sum(row[key] for row in rows) for key in ("tokens_sampled", "tokens_trained", "flops")
        )
        seconds = rows[-1]["time"]
        bill.add(stage.name, tokens_sampled=sampled, tokens_trained=trained, flops=flops, seconds=seconds)
    for row in measured:
        bill.add(
            f"{stage.name}: evaluation",
            tokens_sampled=row["tokens"],
            flops=row["flops"] or 0.0,
            seconds=row["seconds"],
        )


def task_of(path: Path) -> Task | None:
    """The task that a run's last reinforcement stage learned; None for what is no such run."""
    if not (path / "recipe.yaml").exists():
        return None
    settings = [stage["task"] for stage in RunDirectory(path).recipe()["stages"] if "task" in stage]
    return tasks.get(**settings[-1]) if settings else None
