"""The tasks that bear a name of their own: rooms above put theirs in, and everybody finds them here."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from longjing.errors import UserError
from longjing.validation import explain_settings, nearest

PLUGINS = ("longjing.toys",)  # modules that register tasks when they are imported

_TASKS: dict[str, type[Any]] = {}


def register(*tasks: type[Any]) -> None:
    """Make task classes known by their `name`; each needs a `settings_type`, and is made from one of those."""
    for task in tasks:
        _TASKS[task.name] = task


def registered() -> Mapping[str, type[Any]]:
    """The registered task classes by name."""
    for plugin in PLUGINS:
        import_module(plugin)
    return _TASKS


def make(name: str, **settings: Any) -> Any:
    """The registered task of that name.

    Raises UserError for a name that nobody registered, and for an unknown or impossible setting, naming it.
    """
    classes = registered()
    if name not in classes:
        raise UserError(f"no task {name!r}{nearest(name, list(classes))}; the tasks are: {', '.join(classes)}")
    task = classes[name]
    return task(task_settings(name, task.settings_type, settings))


def task_settings(name: str, settings_type: type[Any], settings: Mapping[str, Any]) -> Any:
    """The settings of the task `name`, checked. Raises UserError for an unknown or impossible one, naming it."""
    try:
        return settings_type(**settings)
    except ValidationError as error:
        raise UserError(f"task {name!r}: {explain_settings(error, settings_type)}") from None
