"""Running a recipe: its stages in order, each from wherever it stands, then the bill and the report.

A stage that has finished is measured beside the others (checkpoints.py), entered into the lineage, and has to pass
its gate before the next one begins.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console

from longjing import tasks
from longjing.cluster.runtime import Runtime
from longjing.errors import UserError
from longjing.learning.advice import tolerance
from longjing.learning.kinds import KINDS
from longjing.learning.loop import run_stage
from longjing.learning.stage import DATA, MODEL, PREFERENCES
from longjing.model.batch_invariance_probe import products_are_batch_invariant
from longjing.model.device import device_name, keep_freed_memory
from longjing.planning.bill import Bill, Phase, Prices
from longjing.recipe import lineage
from longjing.recipe.checkpoints import measure
from longjing.recipe.gates import pass_gate
from longjing.recipe.progress import StageProgress
from longjing.recipe.report import write_report
from longjing.recipe.schema import Recipe
from longjing.recipe.stages import Stage, makes, references
from longjing.runs import RunDirectory
from longjing.runs.jsonl import Row
from longjing.runs.resolve import SHIPPED, resolve
from longjing.tasks import Task
from longjing.tasks.mixture import Mixture
from longjing.toys import EVERYDAY


def run_recipe(recipe: Recipe, out: Path, console: Console) -> None:
    """Run what is left of the recipe in the run directory `out`.

    Finished stages are skipped, an unfinished one goes on where it was saved. Bill and report are written at
    the end, however it comes: interrupted (KeyboardInterrupt is passed on), refused, or at a closed gate. Raises
    UserError, and GateClosed if a stage has not reached what its gate asks for.
    """
    recipe = recipe.here()
    assert recipe.threads is not None
    torch.set_num_threads(recipe.threads)
    if torch.device(recipe.device).type == "cpu":
        keep_freed_memory()
    run = RunDirectory(out)
    runner = _Runner(recipe, run, console)
    offers = machine_offers(recipe)
    runner.refuse_what_is_missing()
    with run.writing(recipe.to_dict(), reread=_reread):
        run.write_json("machine.json", offers)
        run.write_json("makes.json", {stage.name: makes(stage.kind) for stage in recipe.stages})
        try:
            runner.forget_what_was_deleted()
            for stage in recipe.stages:
                runner.stage(stage)
        finally:
            account(run)


def machine_offers(recipe: Recipe) -> dict[str, Any]:
    """What this machine does with the recipe's numbers: its processor, and whether its products are batch-invariant
    (None where that isn't asked: on a GPU, and in bfloat16)."""
    device = torch.device(recipe.device)
    exact = device.type == "cpu" and recipe.dtype == "float32"
    return {"name": device_name(device), "batch_invariant": products_are_batch_invariant() if exact else None}


def _reread(old: dict[str, Any]) -> dict[str, Any]:
    """A run's recipe as today's version would resolve it; as it is where that can't."""
    try:
        return Recipe.model_validate(old).to_dict()
    except ValidationError:
        return old


class _Runner:
    """Brings the stages of one run to their end."""

    def __init__(self, recipe: Recipe, run: RunDirectory, console: Console) -> None:
        self._recipe, self._run, self._console = recipe, run, console
        self._plain = recipe.to_dict()
        self._own = [stage.name for stage in recipe.stages]
        self._runtime = Runtime(recipe.seed, torch.device(recipe.device), getattr(torch, recipe.dtype))

    def stage(self, stage: Stage) -> None:
        """What is left of one stage, and of what follows it."""
        number = self._own.index(stage.name)
        settings = self._plain["stages"][number]
        directory = self._run.stage(stage.name)
        if directory.result is None:
            lineage.begin(self._run, self._plain, settings)
        for reference in references(settings):
            if reference.wanted == MODEL and reference.name not in self._own:
                self._measure(reference.name, resolve(reference.name), -1)
        if directory.result is not None:
            self._say(f"{stage.name}: finished already")
            directory.drop_state()  # which a kill, or an older version, left there
        else:
            self._work(stage)
        lineage.record(self._run, self._plain, settings)
        if makes(stage.kind) == MODEL:
            self._measure(stage.name, directory.model_path, number)
        if stage.gate is not None:
            text = pass_gate(self._run, settings, stage.gate)
            self._say(f"{stage.name} passed its gate: {text}")
        else:  # it may have had one, and lost it
            (directory.path / "gate.json").unlink(missing_ok=True)

    def refuse_what_is_missing(self) -> None:
        """Raise UserError for a model or a file from outside that isn't there: now rather than hours later."""
        for stage in self._plain["stages"]:
            for reference in references(stage):
                if reference.name in self._own:
                    continue
                try:
                    path = lineage.located(reference)
                    if reference.wanted in (DATA, PREFERENCES) and not path.is_file():
                        raise UserError(f"no such file: {path}")
                except UserError as error:
                    setting = ".".join(map(str, (stage["name"], *reference.path)))
                    raise UserError(f"{error}\n  give another with --set {setting}=PATH") from None

    def forget_what_was_deleted(self) -> None:
        """A stage whose directory was deleted begins again: nothing that was noted of it holds any more, nor what was
        measured of a model from outside that it takes, and no stage that has begun: it may be another now."""
        lineage.prune(self._run)
        taken: dict[bool, set[str]] = {False: set(), True: set()}
        for stage in self._plain["stages"]:
            begun = self._run.stage(stage["name"]).begun
            taken[begun].update(reference.name for reference in references(stage))

        def holds(row: Row) -> bool:
            name = row["checkpoint"]
            if row["step"] < 0:  # from outside
                return name not in taken[False] - taken[True]
            return self._run.stage(name).result is not None

        self._run.checkpoints.keep(holds)

    def _work(self, stage: Stage) -> None:
        """The stage's loop, and someone who looks on."""
        recipe, rows = self._recipe, self._run.stage(stage.name).metrics.rows()
        allowed = tolerance(recipe.device, recipe.dtype)
        steps = getattr(stage, "steps", None)
        progress = StageProgress(self._console, stage.name, stage.declared, steps, rows, allowed)
        with progress.shown():
            directory = self._run.stage(stage.name, progress)
            run_stage(stage.declared.trainer, self._with_paths(stage), directory, self._runtime)

    def _with_paths(self, stage: Stage) -> Stage:
        """The stage with paths in place of the names of earlier stages and of directories of data, as its loop wants
        it."""
        for reference in references(stage.model_dump()):
            if reference.name in self._own:
                path = lineage.product(self._run.stage(reference.name), reference.wanted)
            elif reference.wanted == DATA:
                path = lineage.located(reference)
            else:
                continue
            stage = _replaced(stage, reference.path, str(path))
        return stage

    def _measure(self, name: str, model: Path, number: int) -> None:
        if self._recipe.measure is None:
            return
        progress = StageProgress(self._console, f"measuring {name}", None, None, [])
        with progress.shown():
            measure(
                self._recipe.measure, self._run, name, model, self._runtime, step=number, say=self._say,
                watcher=progress.sampled,
            )  # fmt: skip

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def _replaced(settings: Any, path: Sequence[str | int], value: str) -> Any:
    """The settings with another value at `path`."""
    first, *rest = path
    if isinstance(first, int):
        return [*settings[:first], value, *settings[first + 1 :]]
    return settings.model_copy(update={first: _replaced(getattr(settings, first), rest, value) if rest else value})


def account(run: RunDirectory) -> None:
    """Write the bill and the report of what there is so far."""
    bill = bill_of(run)
    kept = {stage.name: stage.result for stage in run.stages() if "sampled" in (stage.result or {})}
    run.write_json("bill.json", bill.to_dict() | {"kept": kept})
    write_report(run)


def bill_of(run: RunDirectory) -> Bill:
    """What the run has cost so far, by stage."""
    bill = Bill(Prices(**run.recipe().get("prices", {})))
    for stage in run.stages():
        if rows := stage.metrics.rows():
            bill.add(stage.name, _work(rows))
        for row in stage.evaluations.rows():
            bill.add(f"{stage.name}: evaluation", _measurement(row))
    for row in run.checkpoints.rows():
        bill.add(f"{row['checkpoint']}: comparison", _measurement(row))
    return bill


def _work(rows: Sequence[Row]) -> Phase:
    """What a stage's metrics say it used."""
    last = rows[-1]
    if "tokens" in last:  # running totals
        return Phase(tokens_trained=last["tokens"], flops=last["flops"], seconds=last["time"])
    keys = ("tokens_sampled", "tokens_trained", "flops")
    return Phase(**{key: sum(row.get(key, 0) for row in rows) for key in keys}, seconds=last["time"])


def _measurement(row: Row) -> Phase:
    return Phase(tokens_sampled=row["tokens"], flops=row["flops"] or 0.0, seconds=row["seconds"])


def task_of(name_or_path: str) -> Task | None:
    """What a model has learned to do: of a run the task of the last stage that practises one, of a shipped model all
    that the models of the package have learned; None for what is neither. None, too, for a task whose code isn't the
    package's, or whose file is gone: a run may come from anywhere, and to look at it is not to run what it names."""
    path = Path(name_or_path)
    if resolve(name_or_path).parent == SHIPPED:
        return Mixture([(tasks.get(name, difficulty=2), 1.0) for name in EVERYDAY])
    if not (path / "recipe.yaml").exists():
        return None
    practising = [name for name, kind in KINDS.items() if kind.practises]
    settings = [stage["task"] for stage in RunDirectory(path).recipe()["stages"] if stage["kind"] in practising]
    if not settings or tasks.runs_code(settings[-1]):
        return None
    try:
        return tasks.get(**settings[-1])
    except UserError:
        files = [leaf for leaf in tasks.flatten_mixture(settings[-1]) if "sha256" in leaf]
        there = [tasks.with_digest({"name": leaf["name"]}).get("sha256") == leaf["sha256"] for leaf in files]
        if files and all(there):
            raise
        return None
