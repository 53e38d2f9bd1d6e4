"""Tasks that aren't in the package: a class in a Python file, or in an installed module.

Whoever names one runs its code, so only the command line and recipes do, never a model's directory or a run that is
merely looked at.
"""

import importlib
import sys
import traceback
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isabstract, isclass
from pathlib import Path
from types import ModuleType
from typing import Any

from longjing.errors import UserError
from longjing.files import digest
from longjing.validation import nearest

_NEEDED = ("problems", "judge", "solve")
# Attributes that tasks of an earlier version, or their settings, override.
_RENAMED = {
    "dial": "difficulties", "judging": "judge_settings", "apart": "split_key", "placed": "located_rows",
}  # fmt: skip
_NO_TASK = (
    "no task: no class with the methods problems, judge and solve; the shortest way to one is a subclass of "
    "longjing.tasks.ListedTask (docs/your-own-task.md)"
)


def is_imported(name: str) -> bool:
    """Whether a task of that name is Python: `my_task.py`, `my_task.py:Name`, `package.module:Name`."""
    return name.endswith(".py") or ":" in name


def python_file(name: str) -> str | None:
    """The file that the name names, None if it is a module's."""
    where, _ = _parts(name)
    return where if where.endswith(".py") else None


def _parts(name: str) -> tuple[str, str]:
    """The file or module, and the class in it, "" if the name leaves that open."""
    where, _, attribute = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    return where, attribute


def task_class(name: str) -> type[Any]:
    """The class that the name names; of a file, its only task. Raises UserError if there is none, or its code fails."""
    where, attribute = _parts(name)
    module = _file(where, digest(where)) if where.endswith(".py") else _module(where)
    tasks = {key: value for key, value in vars(module).items() if _is_task(value)}
    if not attribute:
        own = {key: value for key, value in tasks.items() if value.__module__ == module.__name__}
        if len(own) == 1:
            return _current(where, next(iter(own.values())))
        several = f"several tasks: say which, {' or '.join(f'{where}:{key}' for key in own)}"
        raise UserError(f"{where} defines {several if own else _NO_TASK}")
    if attribute not in tasks:
        alternatives = f"there are: {', '.join(tasks)}" if tasks else f"it has {_NO_TASK}"
        raise UserError(f"{where} has no task {attribute!r}{nearest(attribute, list(tasks))}; {alternatives}")
    return _current(where, tasks[attribute])


def _current(where: str, task: type[Any]) -> type[Any]:
    """The task. Raises UserError if it overrides what has another name now: nothing would read it."""
    for old, new in _RENAMED.items():
        if hasattr(task, old) or hasattr(getattr(task, "settings_type", None), old):
            raise UserError(f"{where}: {task.__name__} defines `{old}`, which is called `{new}` now: rename it")
    return task


def _is_task(value: Any) -> bool:
    return isclass(value) and not isabstract(value) and all(callable(getattr(value, need, None)) for need in _NEEDED)


@lru_cache(maxsize=16)
def _file(path: str, content: str) -> ModuleType:
    """The module of a file, run once for each content."""
    name = f"longjing_task_{content[:16]}"
    spec = spec_from_file_location(name, Path(path).resolve())
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # where dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file does wrong, it is the file's author who has to know
        del sys.modules[name]
        raise UserError(f"{path}{_line(error, path)}: {_reason(error)}") from error
    return module


def _module(name: str) -> ModuleType:
    """A module of the packages here or of the working directory, as `python -m` finds it."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"there is no module {error.name!r} for the task; a file is named by its path: my_task.py, or "
                "my_task.py:Name"
            ) from None
        raise UserError(f"{name}: {_reason(error)}") from error
    except Exception as error:
        raise UserError(f"{name} can't be imported: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong; where a module of this package has moved, where to."""
    moved = isinstance(error, ImportError) and (error.name or "").startswith("longjing.")
    return str(error) if moved else f"{type(error).__name__}: {error}"


def _line(error: Exception, path: str) -> str:
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    resolved = str(Path(path).resolve())
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == resolved]
    return f", line {lines[-1]}" if lines else ""
