"""Tasks whose answers can be checked: problems, verdicts, rewards.

`get(name, **settings)` gives a task, `names()` those that stand alone and know the right answers. Beside them are
`conversation`, prompts without a right answer, and `mixture`, several tasks as one. To add one, subclass
`base.GeneratedTask` (see there what it needs) and enter it below.
"""

from typing import Any

from pydantic import ValidationError

from longjing.errors import UserError
from longjing.tasks.arithmetic import Arithmetic
from longjing.tasks.base import Completion, GeneratedTask, Problem, Split, Task, Verdict, split_of
from longjing.tasks.calculator import Calculator
from longjing.tasks.code import Code
from longjing.tasks.complaints import complaint, nearest
from longjing.tasks.conversation import Conversation
from longjing.tasks.countdown import Countdown
from longjing.tasks.equations import Equations
from longjing.tasks.mixture import Mixture
from longjing.tasks.stream_of_search import StreamOfSearch
from longjing.tasks.word_problems import WordProblems

__all__ = ["EVERYDAY", "Completion", "Problem", "Split", "Task", "Verdict", "get", "names", "split_of"]

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
    """The task of that name. `difficulty` (1 to 5) sets the defaults of the settings that are not given.

    A mixture takes `parts=[{"name": ..., "weight": 1, ...}, ...]`, with the settings of each part. Raises
    UserError for an unknown task and for an unknown or impossible setting, naming it.
    """
    known: dict[str, Any] = {**_TASKS, Conversation.name: Conversation, Mixture.name: Mixture}
    if name not in known:
        raise UserError(f"no task {name!r}{nearest(name, list(known))}; the tasks are: {', '.join(known)}")
    task = known[name]
    try:
        options = task.settings_type(**settings)
    except ValidationError as error:
        raise UserError(f"task {name!r}: {complaint(error, task.settings_type)}") from None
    if task is Mixture:
        return Mixture([(get(part.name, **part.model_extra), part.weight) for part in options.parts])
    made: Task = task(options)
    return made
