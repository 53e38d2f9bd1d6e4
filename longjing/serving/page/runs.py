"""The runs under a folder and their stages, read as far as they have come.

Names come from a browser, so that they are only ever looked up among those that were found, never made into a path.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import yaml

from longjing.errors import UserError
from longjing.learning.kinds import KINDS
from longjing.planning.bill import duration
from longjing.runs import RunDirectory
from longjing.runs.curves import curves
from longjing.runs.figures import figures, seconds_left, steps_done, steps_planned, unjudged
from longjing.runs.following import RolloutIndex, Rows
from longjing.runs.resolve import resolve
from longjing.text.tokenizer import Tokenizer

_KEPT = 8  # stages whose logs stay in memory
_QUIET = 60.0  # seconds without news after which a stage isn't called running, unless its steps are as long
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")  # of a stage, as recipes have it


@dataclass(frozen=True)
class Status:
    """One line on a stage. `state`: finished, running or quiet; `steps` None: not known yet."""

    state: str
    note: str
    done: int
    steps: int | None
    figures: list[tuple[str, str]]


class StageView:
    """A stage and what was logged so far; `version` is another number whenever that changes."""

    def __init__(self, run: RunDirectory, settings: Mapping[str, Any]) -> None:
        self.run, self.settings, self.kind = run, settings, KINDS[settings["kind"]]
        self.directory = run.stage(settings["name"])
        self._metrics = Rows(self.directory.metrics.path)
        self._evaluations = Rows(self.directory.evaluations.path)
        self.rollouts = RolloutIndex(self.directory.rollouts.path)
        self.finished, self.version = False, next(_versions)
        self._lock = Lock()

    def refresh(self) -> "StageView":
        """Read what is new."""
        with self._lock:
            changed = [log.refresh() for log in (self._metrics, self._evaluations, self.rollouts)]
            finished = (self.directory.path / "result.json").exists()
            if any(changed) or finished != self.finished:
                self.finished, self.version = finished, next(_versions)
        return self

    def status(self) -> Status:
        rows = self._metrics.rows
        steps, shown = steps_planned(self.kind.steps(self.settings), rows), figures(self.kind.metrics, rows)
        for row in self._evaluations.rows[-1:]:
            if row.get("pass_at_1") is not None:
                shown.append((f"{row['split']} problems", f"{row['pass_at_1']:.1%}{unjudged(row)}"))
        state, note = "running", ""
        if self.finished:
            state, note = "finished", f"in {duration(rows[-1]['time'])}" if rows else ""
        elif (written := self._quiet_since()) is not None:
            today = time.strftime("%x", time.localtime(written)) == time.strftime("%x")
            state = "quiet"
            note = time.strftime("since %H:%M" if today else "since %d %b %H:%M", time.localtime(written))
        elif (left := seconds_left(rows, steps)) is not None:
            note = f"{duration(left)} left"
        return Status(state, note, steps_done(rows), steps, shown)

    def charts(self) -> tuple[list[Any], list[Any]]:
        """What matters most, and the others: `Plot`s, without those that have nothing to show."""
        drawn = curves(self.kind.charts, self._metrics.rows, self._evaluations.rows)
        plots = {chart.title: plot for chart in drawn if (plot := chart.plot()) is not None}
        first = [plots.pop(spec.title) for spec in self.kind.charts if spec.first and spec.title in plots]
        return first, list(plots.values())

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the model that learns: the finished one's, else that of the model it began with. None if
        neither is found.

        A relative path counts from where the run was started, which is likely one of the folders around it.
        """
        places: list[str | Path] = [self.directory.path]
        if isinstance(model := self.settings.get("model"), str):
            around = [parent / model for parent in self.run.path.resolve().parents]
            places += [self.run.path / model, model, *around]
        for source in places:
            try:
                file = resolve(source) / "tokenizer.json"
            except UserError:
                continue
            if file.exists():
                return _tokenizer(file, _time_of(file))
        return None

    def _quiet_since(self) -> float | None:
        """When a stage that isn't finished was last heard of, unless that is as recent as its pace lets expect."""
        rows = self._metrics.rows[-20:]
        pace = (rows[-1]["time"] - rows[0]["time"]) / (len(rows) - 1) if len(rows) > 1 else 0.0
        written = max(map(_time_of, [self.directory.path, self._metrics.path, self._evaluations.path]))
        return None if time.time() - written < max(_QUIET, 10 * pace) else written


_versions = count(1)


class Runs:
    """All runs under a folder: in it, one level deeper, or the folder itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stages: OrderedDict[tuple[str, str], StageView] = OrderedDict()
        self._lock = Lock()

    def names(self) -> list[str]:
        """The newest, by what was last written, first."""
        return sorted(paths := self._found(), key=lambda name: (-_written(paths[name]), name))

    def paths(self) -> list[Path]:
        """Their directories, the one that was begun or changed last first."""
        return sorted(self._found().values(), key=lambda run: -_time_of(run / "recipe.yaml"))

    def stages(self, run: str | None) -> list[str]:
        """The stages that have begun, in the recipe's order. None of what isn't a run here."""
        path = self._found().get(run or "")
        return list(_begun(path)) if path is not None else []

    def stage(self, run: str | None, name: str | None) -> StageView | None:
        """The stage, or None unless that stage of that run has begun."""
        path = self._found().get(run or "")
        settings = _begun(path).get(name or "") if path is not None else None
        if path is None or settings is None:
            return None
        with self._lock:
            stage = self._stages.get((str(run), str(name)))
            if stage is None or stage.settings != settings:
                stage = StageView(RunDirectory(path), settings)
            self._stages[str(run), str(name)] = stage
            self._stages.move_to_end((str(run), str(name)))
            while len(self._stages) > _KEPT:
                self._stages.popitem(last=False)
        return stage.refresh()

    def _found(self) -> dict[str, Path]:
        recipes = (path for depth in ("", "*/", "*/*/") for path in self.folder.glob(f"{depth}recipe.yaml"))
        return {str(recipe.parent.relative_to(self.folder)): recipe.parent for recipe in recipes}


def _written(run: Path) -> float:
    return max(map(_time_of, [run / "recipe.yaml", *run.glob("*/metrics.jsonl")]))


def _time_of(path: Path) -> float:
    """When it was last written; 0 if it is no more."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _begun(run: Path) -> dict[str, Mapping[str, Any]]:
    """The settings of the stages that have a directory; nothing of a recipe that isn't one."""
    try:
        stages = _recipe(run / "recipe.yaml", _time_of(run / "recipe.yaml"))["stages"]
        settings = {stage["name"]: stage for stage in stages if stage["kind"] in KINDS}
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return {name: settings[name] for name in settings if _NAME.fullmatch(str(name)) and (run / name).is_dir()}


@lru_cache(maxsize=64)
def _recipe(path: Path, _time: float) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@lru_cache(maxsize=8)
def _tokenizer(file: Path, _time: float) -> Tokenizer | None:
    try:
        return Tokenizer.from_directory(file.parent)
    except UserError:
        return None
