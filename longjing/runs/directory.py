"""A run is a directory that explains itself.

    RUN/recipe.yaml               the resolved recipe: every setting, defaults too
    RUN/makes.json                what each stage makes: a model, data, a reward model
    RUN/bill.json, report.html    what it cost, and what it showed
    RUN/lineage.json              which checkpoint, data and settings made which
    RUN/checkpoints.jsonl         every checkpoint, measured on the same tasks
    RUN/STAGE/inputs.json         SHA-256 of what it takes from outside the run, noted before its first step
    RUN/STAGE/metrics.jsonl       one line per step
    RUN/STAGE/rollouts.jsonl      what was sampled and what it earned
    RUN/STAGE/evaluations.jsonl   held-out measurements
    RUN/STAGE/memory.json         how its updates were fitted into memory
    RUN/STAGE/state/              the exact training state, to resume from; gone when the stage is finished
    RUN/STAGE/data.jsonl          what a sampling stage keeps: one conversation a line
    RUN/STAGE/model/              the finished model, a Hugging Face directory
    RUN/STAGE/result.json         written last: the stage is finished
    RUN/STAGE/gate.json           whether it has reached what its gate asks for

A writer holds the run's lock. A reader needs none: at any moment a file is whole, or a log of whole lines.
"""

import fcntl
import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from longjing.errors import UserError
from longjing.files import disk_errors, sync, to_json, write_text
from longjing.runs import atomic_checkpoint, migration
from longjing.runs.jsonl import JsonLines, Row

# Settings of a stage that may be others when it goes on.
_FREE = ("gate", "save_every", "memory", "micro_tokens", "chunk_tokens", "activation_checkpointing")
_SLACK = 64 * 2**20  # bytes to leave free for logs and the report


class Watcher:
    """Someone who looks on while a stage works; this one does nothing."""

    def metrics(self, row: Row) -> None:
        """A step is done."""

    def evaluation(self, row: Row) -> None:
        """A held-out measurement is done."""

    def status(self, text: str) -> None:
        """What the stage is busy with, in a few words."""

    def sampled(self, done: int, number: int, tokens: int) -> None:
        """So many of a number of completions are done, with so many tokens: an engine's `watcher`."""

    def updated(self, done: int, number: int) -> None:
        """An update has read so many of a number of completions."""


class RunDirectory:
    """The directory of a run, to read or (inside `writing`) to write."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = JsonLines(self.path / "checkpoints.jsonl")

    @contextmanager
    def writing(
        self, recipe: dict[str, Any], reread: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> Iterator[None]:
        """Claim the run for this process, creating it or resuming it. `reread`: a recipe of before as it would be
        written today, with the settings that have come since at their defaults.

        Stages that haven't begun may be others than before. Raises UserError if the directory can't be written,
        another process has it or its recipe is another.
        """
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is working on {self.path}; wait for it or choose another --out"
                ) from None
            self._adopt(recipe, reread)
            self.reserve(0)
            self.checkpoints.rewind(math.inf)  # no further than a line that a kill cut off
            yield

    def _adopt(self, recipe: dict[str, Any], reread: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        path = self.path / "recipe.yaml"
        if path.exists():
            old = reread(self.recipe())
            begun = [number for number, stage in enumerate(self.stages(), 1) if stage.begun]
            bound = max(begun, default=0)  # stages, up to the last that has begun
            if changed := differences(_binding(old, bound), _binding(recipe, bound)):
                mended = any(".sha256: " in line for line in changed)
                raise UserError(
                    f"{self.path} holds a run of another recipe; what differs in the work that has begun:\n  "
                    + "\n  ".join(changed)
                    + "\ngive the same recipe to resume it, or choose another --out; a stage begins again, with "
                    "other settings, if its directory and those of the stages after it are deleted"
                    + (f"; to go on with a file that was mended, write its sha256 into {path}" if mended else "")
                )
            if old == recipe:
                return
        elif any(entry.name != ".lock" and entry.suffix != ".part" for entry in self.path.iterdir()):
            raise UserError(f"{self.path} is not empty and not a run; choose another --out")
        write_text(path, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))

    def recipe(self) -> dict[str, Any]:
        """The resolved recipe. Raises UserError if this is no run."""
        try:
            return yaml.safe_load((self.path / "recipe.yaml").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{self.path} is not a run: it has no recipe.yaml") from None

    def reserve(self, size: int) -> None:
        """Raise UserError unless the disk has room for `size` bytes more: before the work, not during it."""
        free = shutil.disk_usage(self.path).free
        if free < size + _SLACK:
            raise UserError(
                f"{self.path}: {(size + _SLACK) / 1e6:.0f} MB are needed, the disk has {free / 1e6:.0f} MB; "
                "free some space or choose another --out"
            )

    def stage(self, name: str, watcher: Watcher | None = None) -> "StageDirectory":
        return StageDirectory(self, name, watcher)

    def stages(self) -> list["StageDirectory"]:
        """The recipe's stages in order, whether they have begun or not."""
        return [self.stage(stage["name"]) for stage in self.recipe()["stages"]]

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.path / name, to_json(value) + "\n")

    def read_json(self, name: str) -> Any:
        """The file's content, None if there is no such file."""
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


class StageDirectory:
    """One stage of a run: its logs, its state, its model.

    A stage begins with `load_state`, logs each step and then saves it; `model_directory` and `finish` end it.
    """

    def __init__(self, run: RunDirectory, name: str, watcher: Watcher | None = None) -> None:
        self.run, self.name, self.watcher = run, name, watcher or Watcher()
        self.path = run.path / name
        self.metrics = JsonLines(self.path / "metrics.jsonl", self.watcher.metrics, migration.metrics)
        self.rollouts = JsonLines(self.path / "rollouts.jsonl")
        self.data = JsonLines(self.path / "data.jsonl")
        self.evaluations = JsonLines(self.path / "evaluations.jsonl", self.watcher.evaluation)
        self.model_path = self.path / "model"
        self._logs = (self.metrics, self.rollouts, self.data, self.evaluations)

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and facts (the `step` among them) of the last saved state, None at the beginning.

        Cuts the logs back to that step: a step that was killed before it was saved must not be logged twice.
        Creates the stage's directory.
        """
        with disk_errors(self.path):
            self.path.mkdir(exist_ok=True)
        state = atomic_checkpoint.load(self.path / "state")
        self.rewind(-math.inf if state is None else state[1]["step"])
        return state

    def rewind(self, step: float) -> None:
        """Drop everything logged after `step`."""
        for log in self._logs:
            log.rewind(step)

    def save_state(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Save the exact state after `step`, whole or not at all; the logs up to it become durable first. Raises
        UserError if the disk refuses: the run can then be resumed from the state before."""
        try:
            for log in self._logs:
                log.sync()
            atomic_checkpoint.save(self.path / "state", step, tensors, facts)
        except UserError as error:
            raise UserError(
                f"{error}\nthe state saved before is whole: mend this, run the same command, and it resumes"
            ) from error

    @property
    def state_bytes(self) -> int:
        """What the states on the disk take."""
        return sum(file.stat().st_size for file in (self.path / "state").glob("*"))

    def drop_state(self) -> None:
        """Remove the states, which nothing needs once the stage is finished."""
        with disk_errors(self.path):
            shutil.rmtree(self.path / "state", ignore_errors=True)

    @property
    def memory(self) -> Any:
        """How its updates were fitted into memory, as it was noted; None if nothing was."""
        return self.run.read_json(f"{self.name}/memory.json")

    @memory.setter
    def memory(self, plan: dict[str, Any]) -> None:
        self.run.write_json(f"{self.name}/memory.json", plan)

    @contextmanager
    def model_directory(self) -> Iterator[Path]:
        """A fresh directory to write the model into; it becomes `model/` when the block ends well."""
        part = self.path / "model.part"
        with disk_errors(self.model_path):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
            for file in part.rglob("*"):
                sync(file)
            if self.model_path.exists():
                shutil.rmtree(self.model_path)
            part.rename(self.model_path)
            sync(self.path)

    def finish(self, result: dict[str, Any]) -> None:
        """Mark the stage as finished, with what there is to say about it."""
        write_text(self.path / "result.json", to_json(result) + "\n")

    @property
    def result(self) -> dict[str, Any] | None:
        """What `finish` was given; None while the stage isn't finished."""
        return self.run.read_json(f"{self.name}/result.json")

    @property
    def begun(self) -> bool:
        """Whether anything of it is saved. Logs alone don't count: without a state, `load_state` drops them."""
        return any((self.path / file).exists() for file in ("state", "result.json"))


def _binding(recipe: dict[str, Any], count: int) -> dict[str, Any]:
    """The recipe up to its stage number `count`, without what is no part of the work: what is said of it, asked of it
    when it is done, and how it is fitted into a machine."""
    stages = [{key: stage[key] for key in stage if key not in _FREE} for stage in recipe["stages"][:count]]
    kept = {key: recipe[key] for key in recipe if key not in ("description", "prices", "final")}
    return kept | {"stages": stages}


def differences(old: Any, new: Any, at: str = "") -> list[str]:
    """The settings in which two recipes differ, as `dotted.path: old -> new`; stages go by their names. A file's digest
    that wasn't noted then is no difference: whether the file is another, nobody knows."""
    if isinstance(old, list) and isinstance(new, list):
        names, others = _named(old), _named(new)
        if names.keys() == others.keys() and [*names] != [*others]:
            old, new = [*names], [*others]  # in another order
        elif names and others:
            old, new = names, others
        elif len(old) == len(new):
            old, new = (dict(enumerate(items)) for items in (old, new))
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [f"{at}: {_shown(old)} -> {_shown(new)}"]
    keys = [*old, *(key for key in new if key not in old and key != "sha256")]
    changes = (differences(old.get(key), new.get(key), f"{at}.{key}" if at else str(key)) for key in keys)
    return [line for lines in changes for line in lines]


def _named(items: list[Any]) -> dict[str, Any]:
    """The items by their names; nothing, unless each has a name of its own."""
    named = {item["name"]: item for item in items if isinstance(item, dict) and "name" in item}
    return named if len(named) == len(items) else {}


def _shown(value: Any) -> str:
    return "(not set)" if value is None else to_json(value)
