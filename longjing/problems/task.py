"""The contract of a task: it yields problems, judges completions, and can solve its own problems.

Tasks come from everywhere, so whatever their own code raises while a run goes on is reported with the task, the method,
the problem and the completion (`_blame`).
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from typing import Any, Protocol, get_args, runtime_checkable

from longjing.errors import UserError
from longjing.problems.problem import Completion, Outcome, Problem, Verdict
from longjing.problems.splits import Split
from longjing.text.template import Message

MAX_TURNS = 8  # of the model, in a conversation with a task that doesn't say how many


class NoProblems(UserError):
    """A split without a problem."""


class Task(Protocol):
    """The contract of every task. Tasks are immutable; any number of iterators may be open at once."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> dict[str, Any]:
        """The settings with every default filled in, JSON-able."""

    def problems(self, split: Split, seed: int) -> Iterator[Problem]:
        """Problems of `split`, always the same for a seed. Train is endless and may repeat itself; validation
        and test never yield an id twice, and end when no more problems are found.
        """

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """Judge strictly, exactly and in bounded time; never raises, whatever the completion says."""

    def solve(self, problem: Problem) -> str:
        """A correct answer (what belongs in the box), found by the task's own solver."""


@runtime_checkable
class MultiTurnTask(Protocol):
    """A task that may reply to a completion, with a tool's result say; the model then goes on.

    The model gets at most `max_turns` turns, an attribute of the task; without one, `MAX_TURNS`.
    """

    def reply(self, problem: Problem, completion: Completion) -> str | Message | None:
        """The reply to a completion: a text, as the user's, or a complete message of the chat template's; None ends
        the conversation, and `completion` is judged. Of bounded time and length; never raises, whatever the completion
        says. Nothing but the arguments may count: `completion.earlier` has the conversation so far."""


@runtime_checkable
class VotingTask(Protocol):
    """A task that knows better than `evaluation.normalise` which final answers say the same."""

    def vote(self, problem: Problem, completion: Completion, verdict: Verdict) -> str | None:
        """What a completion votes for; None abstains."""


def max_turns(task: Any) -> int:
    """How many turns a model may get: one of a task that doesn't reply."""
    return getattr(task, "max_turns", MAX_TURNS) if isinstance(task, MultiTurnTask) else 1


def wants_box(task: Any, problem: Problem) -> bool:
    """Whether the task looks for the final answer in a box, as far as it says so (with a method of this name)."""
    method = getattr(task, "wants_box", None)
    return bool(method(problem)) if callable(method) else False


def reply_to(task: Any, problem: Problem, completion: Completion) -> Message | None:
    """The task's reply to a completion that ended by itself; None if that was the last turn."""
    if completion.truncated or len(completion.earlier) + 1 >= max_turns(task):
        return None
    with _blame(task, "reply", problem, completion):
        reply = task.reply(problem, completion)
    return {"role": "user", "content": reply} if isinstance(reply, str) else reply


def verdict_of(task: Task, problem: Problem, completion: Completion) -> Verdict:
    """The task's verdict. Raises UserError, naming the task, the problem and the completion, if it breaks its contract:
    a run goes on from there once that is mended, and whatever else were made of it would be learned from."""
    with _blame(task, "judge", problem, completion):
        verdict = task.judge(problem, completion)
        if not isinstance(verdict, Verdict) or verdict.outcome not in get_args(Outcome):
            raise TypeError(f"it gave {verdict!r:.100}, which is no Verdict")
        if not all(isinstance(reward, int | float) and isfinite(reward) for reward in verdict.rewards.values()):
            raise ValueError(f"it paid {verdict.rewards}, which are no finite numbers")
        if not all(isinstance(text, str) for text in (verdict.reason, *verdict.rewards)):
            raise TypeError(f"it gave {verdict!r:.100}, whose reason and parts are no texts")
    return verdict


def vote_of(task: VotingTask, problem: Problem, completion: Completion, verdict: Verdict) -> str | None:
    """What the completion votes for. Raises UserError as `verdict_of` does."""
    with _blame(task, "vote", problem, completion):
        return task.vote(problem, completion, verdict)


@contextmanager
def _blame(task: Any, method: str, problem: Problem, completion: Completion) -> Iterator[None]:
    """Whatever a task's own code raises is for its author to know, but for Ctrl-C: tasks come from everywhere.
    SystemExit, too, or the answer `exit()` to a task that evaluates it would end everything without a word."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        task_file = getattr(sys.modules.get(type(task).__module__), "__file__", None)
        frame = next((frame for frame in reversed(frames) if frame.filename == task_file), frames[-1])
        raise UserError(
            f"task {task.name!r}: `{method}` raised {_error_text(error)} ({frame.filename}, line "
            f"{frame.lineno}) on problem {problem.id}, {_excerpt(problem.prompt)}, and the answer "
            f"{_excerpt(completion.answer)} behind {len(completion.reasoning)} characters of reasoning; whatever a "
            "completion says, it must not raise: mend it (`longjing tasks check` tries much), and give the same "
            "command again"
        ) from error


def _error_text(error: BaseException) -> str:
    """Its class and its message; making that may fail as well."""
    try:
        message = str(error)
    except Exception:
        message = "(it can't say what)"
    return f"{type(error).__name__}: {message}".encode("utf-8", "backslashreplace").decode()


def _excerpt(text: str) -> str:
    return ascii(text if len(text) <= 200 else f"{text[:200]}...")
