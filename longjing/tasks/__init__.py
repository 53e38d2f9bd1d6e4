"""Tasks whose answers can be checked: problems, verdicts, rewards.

`get(name, **settings)` gives a task, `names()` those of the package that stand alone and know the right answers. Beside
them are `conversation`, prompts without a right answer, and `mixture`, several tasks as one. Others are named by where
they are:

    problems.jsonl (.json, .csv, .parquet)   rows with a prompt and an answer, judged by a verifier
    my_task.py, package.module:Name          Python of one's own
    gym:NAME                                 a data set of reasoning-gym
    verifiers:NAME                           an environment of the `verifiers` package

The package's own are registered (`problems/registry.py`); to add one, subclass `GeneratedTask` and register it. What a
task of one's own needs is all here: `from longjing.tasks import ListedTask, Problem, Verdict, ...`
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from longjing.errors import UserError
from longjing.files import digest
from longjing.problems import (
    Completion,
    GeneratedTask,
    Problem,
    ProblemData,
    Split,
    Task,
    TaskSettings,
    Verdict,
    boxed,
    format_reward,
    split_of,
)
from longjing.problems.registry import make, registered, task_settings
from longjing.tasks.environments import ENVIRONMENT_PREFIX, Environment
from longjing.tasks.file_task import FileTask
from longjing.tasks.imported import is_imported, python_file, task_class
from longjing.tasks.listed_task import ListedTask
from longjing.tasks.mixture import Mixture
from longjing.tasks.reasoning_gym import GYM_PREFIX, ReasoningGymTask
from longjing.tasks.row_files import READERS
from longjing.validation import nearest

__all__ = [
    "Completion", "FileTask", "GeneratedTask", "ListedTask", "Mixture", "Problem", "ProblemData", "Split", "Task",
    "TaskSettings", "Verdict", "boxed", "flatten_mixture", "format_reward", "get", "is_external", "names",
    "refuse_changed", "runs_code", "split_of", "with_digest",
]  # fmt: skip


def names() -> list[str]:
    """The names of the tasks that need no settings and whose answers can be checked."""
    return [name for name, task in registered().items() if issubclass(task, GeneratedTask)]


def get(name: str, **settings: Any) -> Task:
    """The task of that name. `difficulty` (1 to 5) sets the defaults of the settings that are not given, if the task is
    one of the package.

    A mixture takes `parts=[{"name": ..., "weight": 1, ...}, ...]`, with the settings of each part. Of a file `sha256`
    may be given, and another content is refused. Raises UserError for an unknown task and for an unknown or impossible
    setting, naming it.
    """
    if name == Mixture.name:
        parts = task_settings(name, Mixture.settings_type, settings).parts
        return Mixture([(get(part.name, **(part.model_extra or {})), part.weight) for part in parts])
    if name not in (task_names := registered()):
        return _external_task(name, settings, [*task_names, Mixture.name])
    return make(name, **settings)


def _external_task(name: str, settings: dict[str, Any], task_names: list[str]) -> Task:
    refuse_changed({"name": name, **settings})
    if _file_of(name) is not None:
        settings = {key: value for key, value in settings.items() if key != "sha256"}
    if not is_external(name):
        raise UserError(
            f"no task {name!r}{nearest(name, task_names)}; the tasks are: {', '.join(task_names)}; or a file of "
            f"problems ({', '.join(READERS)}), a Python file or package.module:Name, {GYM_PREFIX}NAME, "
            f"{ENVIRONMENT_PREFIX}NAME"
        )
    kinds: dict[str, Any] = {GYM_PREFIX: ReasoningGymTask, ENVIRONMENT_PREFIX: Environment}
    task = next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), FileTask)
    if task is FileTask and is_imported(name):
        return _python(name, settings)
    return task(name, task_settings(name, task.settings_type, settings))


def is_external(name: str) -> bool:
    """Whether a task of that name is none of the package's, but named by where it is."""
    return is_imported(name) or Path(name).suffix in READERS


def _python(name: str, settings: dict[str, Any]) -> Task:
    """A class with a `settings_type` takes its settings as one, any other by keyword."""
    task = task_class(name)
    settings_type = getattr(task, "settings_type", None)
    if isinstance(settings_type, type) and issubclass(settings_type, BaseModel):
        return task(task_settings(name, settings_type, settings))
    try:
        return task(**settings)
    except TypeError as error:
        raise UserError(f"task {name!r} can't be made with {settings or 'no settings'}: {error}") from error


def _file_of(name: str) -> str | None:
    """The file that a task of that name is in, if it is in one."""
    if name.startswith((GYM_PREFIX, ENVIRONMENT_PREFIX)):
        return None
    return name if Path(name).suffix in READERS else python_file(name)


def flatten_mixture(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The tasks that settings (plain data) stand for, each by its own: of a mixture its parts, however deep they lie.
    What has no name is left out: no task can be made of it."""
    if settings.get("name") == Mixture.name and isinstance(parts := settings.get("parts"), list):
        for part in parts:
            if isinstance(part, Mapping):
                yield from flatten_mixture(part)
    elif isinstance(settings.get("name"), str):
        yield settings


def with_digest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, in which every task that is in a file has the file's SHA-256, so that a run goes on with no other.
    One that is there already stays."""
    if settings.get("name") == Mixture.name and isinstance(parts := settings.get("parts"), list):
        parts = [with_digest(part) if isinstance(part, dict) else part for part in parts]
        return {**settings, "parts": parts}
    file = _file_of(name) if isinstance(name := settings.get("name"), str) else None
    if file is None or not Path(file).is_file():
        return {**settings}
    return {"sha256": digest(file), **settings}


def refuse_changed(settings: Mapping[str, Any]) -> None:
    """Raise UserError for a task whose file isn't the one any more whose SHA-256 the settings have."""
    for leaf in flatten_mixture(settings):
        file, wanted = _file_of(leaf["name"]), leaf.get("sha256")
        if file is not None and wanted is not None and (actual := digest(file)) != wanted:
            raise UserError(
                f"{file} has changed: its SHA-256 is {actual}, not {wanted}; bring the old file back, or begin anew"
            )


def runs_code(settings: Mapping[str, Any]) -> bool:
    """Whether making the task, or a part of it, runs code that isn't the package's or a known library's."""
    leaves = (leaf["name"] for leaf in flatten_mixture(settings))
    return any(is_imported(name) and not name.startswith(GYM_PREFIX) for name in leaves if name not in names())
