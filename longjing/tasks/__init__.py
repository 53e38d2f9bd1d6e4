"""Tasks whose answers can be checked: problems, verdicts, rewards.

`get(name, **settings)` gives a task, `names()` those of the package that stand alone and know the right answers. Beside
them are `conversation`, prompts without a right answer, and `mixture`, several tasks as one. Others are named by where
they are:

    problems.jsonl (.json, .csv, .parquet)   rows with a prompt and an answer, judged by a verifier
    my_task.py, package.module:Name          Python of one's own
    gym:NAME                                 a data set of reasoning-gym
    verifiers:NAME                           an environment of the `verifiers` package

To add one to the package, subclass `base.GeneratedTask` (see there what it needs) and enter it below.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from longjing.errors import UserError
from longjing.tasks.arithmetic import Arithmetic
from longjing.tasks.base import Completion, GeneratedTask, Problem, Split, Task, Verdict, split_of
from longjing.tasks.calculator import Calculator
from longjing.tasks.code import Code
from longjing.tasks.complaints import complaint, nearest
from longjing.tasks.conversation import Conversation
from longjing.tasks.countdown import Countdown
from longjing.tasks.environments import ENVIRONMENT, environment
from longjing.tasks.equations import Equations
from longjing.tasks.gym import GYM, Gym
from longjing.tasks.imported import is_imported, python_file, task_class
from longjing.tasks.listed import FileTask, fingerprint
from longjing.tasks.mixture import Mixture
from longjing.tasks.rows import READERS
from longjing.tasks.stream_of_search import StreamOfSearch
from longjing.tasks.word_problems import WordProblems

__all__ = [
    "EVERYDAY", "Completion", "Problem", "Split", "Task", "Verdict", "elsewhere", "get", "leaves", "names", "pinned",
    "runs_code", "split_of",
]  # fmt: skip

_TASKS: dict[str, type[GeneratedTask[Any, Any]]] = {
    task.name: task
    for task in (Countdown, Arithmetic, Equations, WordProblems, StreamOfSearch, Calculator, Code)
}
# What the shipped models have learned, and what is asked where nothing else is said.
EVERYDAY = tuple(task.name for task in (Countdown, Arithmetic, Equations, WordProblems))


def names() -> list[str]:
    """The names of the tasks that need no settings and whose answers can be checked."""
    return list(_TASKS)


def get(name: str, **settings: Any) -> Task:
    """The task of that name. `difficulty` (1 to 5) sets the defaults of the settings that are not given, if the task is
    one of the package.

    A mixture takes `parts=[{"name": ..., "weight": 1, ...}, ...]`, with the settings of each part. Of a file `sha256`
    may be given, and another content is refused. Raises UserError for an unknown task and for an unknown or impossible
    setting, naming it.
    """
    known: dict[str, Any] = {**_TASKS, Conversation.name: Conversation, Mixture.name: Mixture}
    if name not in known:
        return _elsewhere(name, settings, list(known))
    options = _options(name, known[name].settings_type, settings)
    if isinstance(options, Mixture.settings_type):
        return Mixture([(get(part.name, **(part.model_extra or {})), part.weight) for part in options.parts])
    made: Task = known[name](options)
    return made


def _elsewhere(name: str, settings: dict[str, Any], known: list[str]) -> Task:
    """A task that is named by where it is."""
    if (file := _file_of(name)) is not None and (wanted := settings.get("sha256")) is not None:
        if (found := fingerprint(file)) != wanted:
            raise UserError(
                f"{file} has changed: its SHA-256 is {found}, not {wanted}; bring the old file back, or begin anew"
            )
        settings = {key: value for key, value in settings.items() if key != "sha256"}
    if not elsewhere(name):
        raise UserError(
            f"no task {name!r}{nearest(name, known)}; the tasks are: {', '.join(known)}; or a file of problems "
            f"({', '.join(READERS)}), a Python file or package.module:Name, {GYM}NAME, {ENVIRONMENT}NAME"
        )
    if name.startswith(GYM):
        return Gym(name, _options(name, Gym.settings_type, settings))
    if name.startswith(ENVIRONMENT):
        return environment(name, settings)
    if is_imported(name):
        return _python(name, settings)
    return FileTask(name, _options(name, FileTask.settings_type, settings))


def elsewhere(name: str) -> bool:
    """Whether a task of that name is none of the package's, but named by where it is."""
    return is_imported(name) or Path(name).suffix in READERS


def _python(name: str, settings: dict[str, Any]) -> Task:
    """A class with a `settings_type` takes its settings as one, any other by keyword."""
    task = task_class(name)
    settings_type = getattr(task, "settings_type", None)
    if isinstance(settings_type, type) and issubclass(settings_type, BaseModel):
        made: Task = task(_options(name, settings_type, settings))
        return made
    try:
        made = task(**settings)
    except TypeError as error:
        raise UserError(f"task {name!r} can't be made with {settings or 'no settings'}: {error}") from error
    return made


def _options(name: str, settings_type: Any, settings: dict[str, Any]) -> Any:
    try:
        return settings_type(**settings)
    except ValidationError as error:
        raise UserError(f"task {name!r}: {complaint(error, settings_type)}") from None


def _file_of(name: str) -> str | None:
    """The file that a task of that name is in, if it is in one."""
    if name.startswith((GYM, ENVIRONMENT)):
        return None
    return name if Path(name).suffix in READERS else python_file(name)


def leaves(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The tasks that settings (plain data) stand for, each by its own: of a mixture its parts, however deep they lie.
    What has no name is left out: no task can be made of it."""
    if settings.get("name") == Mixture.name and isinstance(parts := settings.get("parts"), list):
        for part in parts:
            if isinstance(part, Mapping):
                yield from leaves(part)
    elif isinstance(settings.get("name"), str):
        yield settings


def pinned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, in which every task that is in a file has the file's SHA-256, so that a run goes on with no other.
    One that is there already stays."""
    if settings.get("name") == Mixture.name and isinstance(parts := settings.get("parts"), list):
        return {**settings, "parts": [pinned(part) if isinstance(part, dict) else part for part in parts]}
    file = _file_of(name) if isinstance(name := settings.get("name"), str) else None
    if file is None or not Path(file).is_file():
        return {**settings}
    return {"sha256": fingerprint(file), **settings}


def runs_code(settings: Mapping[str, Any]) -> bool:
    """Whether making the task, or a part of it, runs code that isn't the package's or a known library's."""
    return any(
        name not in names()
        and not name.startswith(GYM)
        and (is_imported(name) or name.startswith(ENVIRONMENT))
        for name in (leaf["name"] for leaf in leaves(settings))
    )
