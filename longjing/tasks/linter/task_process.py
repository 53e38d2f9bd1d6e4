"""A task in a process apart: its code may hang, end its process or crash it, and whoever asks goes on.

No alarm within a process stops everything (a regular expression holds the interpreter), and `except` doesn't stop
`os._exit`. So each answer is waited for, and a process that is late or gone is replaced.
"""

import datetime
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import fields
from datetime import date as _Date
from datetime import datetime as _DateTime
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from longjing.errors import UserError
from longjing.problems import Completion, NoProblems, Problem, Split, Task, Verdict

_START = 600.0  # seconds for making a task: its libraries, its data
_DRAWING = 3  # times as long as a verdict may take, for the next problem
# Seconds: another year, day of the week, hour, and an odd number.
_CLOCK_SHIFT = 400 * 86_400 + 5 * 3600 + 7 * 60 + 11


class TaskRaised(Exception):
    """The task's code raised an error (SystemExit and KeyboardInterrupt are some), which the message names."""


class NoAnswer(Exception):
    """No answer: the process ended, or was ended since it took too long (`hung`)."""

    def __init__(self, says: str, hung: bool) -> None:
        super().__init__(says)
        self.hung = hung


class OutOfTime(Exception):
    """The time for everything is used up."""


class TaskProcess(AbstractContextManager["TaskProcess"]):
    """`task` in a process of its own: an object is forked with this process; a function is called in a fresh one.

    An answer may take `seconds` (a next problem some more, and the task's making minutes), and nothing is asked after
    `deadline`, a time of `time.monotonic`. `another_time`: with another hash seed, where the process is fresh, and
    another time of day and year. Asking raises TaskRaised, NoAnswer and OutOfTime, and UserError where making the
    task does.
    """

    def __init__(
        self, task: Task | Callable[[], Task], seconds: float, deadline: float, another_time: bool = False
    ) -> None:
        self._task, self._seconds, self._deadline, self._another_time = task, seconds, deadline, another_time
        self._process: Any = None
        self._connection: Connection | None = None

    def __exit__(self, *_: object) -> None:
        self._stop()

    def about(self) -> tuple[str, dict[str, Any]]:
        """The task's name and settings."""
        (name_and_settings,) = self._ask(_about, self._seconds)
        return name_and_settings

    def problems(self, split: Split, seed: int, count: int) -> Iterator[Problem]:
        """The first `count`, as they come, to be read to the end. Raises NoProblems as the task does."""
        return self._ask(_problems, _DRAWING * self._seconds, split, seed, count)

    def judge(self, problem: Problem, text: str, truncated: bool, times: int = 1) -> list[tuple[float, Verdict]]:
        """The verdicts on a completion, judged so many times, each with the seconds it took."""
        return list(self._ask(_judge, self._seconds, problem, text, truncated, times))

    def solve(self, problem: Problem) -> str:
        """The task's own answer."""
        (answer,) = self._ask(_solve, _DRAWING * self._seconds, problem)
        return answer

    def _ask(self, call: Callable[..., Iterator[Any]], seconds: float, *arguments: Any) -> Iterator[Any]:
        if self._connection is None:
            self._start()
            yield from self._answers("", _START, ())
        yield from self._answers(call.__name__, seconds, arguments)

    def _answers(self, name: str, seconds: float, arguments: tuple[Any, ...]) -> Iterator[Any]:
        assert self._connection is not None
        try:
            self._connection.send((name, seconds, arguments))
            while True:
                left = self._deadline - time.monotonic()
                if not self._connection.poll(max(0.0, min(seconds, left))):
                    self._stop()
                    if left <= seconds:
                        raise OutOfTime
                    raise NoAnswer(f"took over {seconds:g} s", hung=True)
                kind, value = self._connection.recv()
                if kind == "value":
                    yield value
                elif kind == "done":
                    return
                else:
                    raise _ERRORS[kind](value)
        except (EOFError, OSError):
            raise NoAnswer(f"ended its process ({self._stop(1.0)})", hung=False) from None

    def _start(self) -> None:
        is_function = not hasattr(self._task, "judge")
        context: Any = multiprocessing.get_context("spawn" if is_function else "fork")
        self._connection, other = context.Pipe()
        make = self._task if is_function else lambda: self._task  # forked, so nothing has to be pickled
        process = context.Process(target=_serve, args=(make, other, self._another_time, os.getpid()))
        before = os.environ.get("PYTHONHASHSEED")
        try:
            if self._another_time:
                os.environ["PYTHONHASHSEED"] = "2" if before == "1" else "1"
            process.start()
            self._process = process
        finally:
            if before is not None:
                os.environ["PYTHONHASHSEED"] = before
            else:
                os.environ.pop("PYTHONHASHSEED", None)
        other.close()

    def _stop(self, wait: float = 0.0) -> str:
        """End the process and what it has started; how it ended, if it did so by itself within `wait` seconds."""
        if self._process is None:
            return "not started"
        self._process.join(wait)
        ended = self._process.exitcode
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        assert self._connection is not None
        self._connection.close()
        self._process = self._connection = None
        if ended is None:
            return "stopped"
        return f"exit code {ended}" if ended >= 0 else signal.Signals(-ended).name


def _serve(make: Callable[[], Task], connection: Connection, another_time: bool, parent: int) -> None:
    """Answer until nobody asks any more."""
    os.setsid()  # so that all of it can be ended, and none of it gets this process's signals
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    # The old ones may be locked by a thread that wasn't forked.
    sys.stdout = sys.stderr = os.fdopen(os.dup(nowhere), "w")
    if another_time:
        _move_clock()
    task: Task | None = None
    while True:
        while not connection.poll(2.0):
            if os.getppid() != parent:
                return
        try:
            name, seconds, arguments = connection.recv()
        except EOFError:
            return
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(seconds) + 60)  # if nobody is left to end this process
        try:
            if task is None:
                task = make()
            if name:
                for value in _CALLS[name](task, *arguments):
                    connection.send(("value", value))
            reply = ("done", "")
        except NoProblems as error:
            reply = ("none", str(error))
        except UserError as error:
            reply = ("raised" if name in ("_judge", "_solve") else "refused", str(error))
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too: the task's code did that
            reply = ("raised", f"{type(error).__name__}: {str(error)[:200]}")
        signal.alarm(0)
        connection.send(reply)


def _about(task: Task) -> Iterator[Any]:
    yield task.name, task.settings


def _problems(task: Task, split: Split, seed: int, count: int) -> Iterator[Problem]:
    for problem in islice(task.problems(split, seed), count):
        for part in ("id", "prompt", "answer"):
            if not isinstance(getattr(problem, part), str):
                raise TypeError(f"a problem's {part} is {getattr(problem, part)!r:.40}, no text")
        # Plain, since classes of the task's own module aren't known where it is received.
        yield Problem(**{each.name: getattr(problem, each.name) for each in fields(Problem)})


def _judge(task: Task, problem: Problem, text: str, truncated: bool, times: int) -> Iterator[tuple[float, Verdict]]:
    completion = Completion.parse(text, prefilled=True, truncated=truncated)
    for _ in range(times):
        began = time.perf_counter()
        verdict = task.judge(problem, completion)
        seconds = time.perf_counter() - began
        if not isinstance(verdict, Verdict):
            raise TypeError(f"judge returned {type(verdict).__name__}, no Verdict")
        yield seconds, Verdict(verdict.outcome, dict(verdict.rewards), str(verdict.reason))


def _solve(task: Task, problem: Problem) -> Iterator[str]:
    yield task.solve(problem)


_CALLS: dict[str, Callable[..., Iterator[Any]]] = {call.__name__: call for call in (_about, _problems, _judge, _solve)}
_ERRORS: dict[str, type[Exception]] = {"none": NoProblems, "refused": UserError, "raised": TaskRaised}


def _move_clock() -> None:
    """What Python code learns of the time of day and the year is another; what measures durations stays."""
    now, now_ns, local, utc = time.time, time.time_ns, time.localtime, time.gmtime
    time.time = lambda: now() + _CLOCK_SHIFT
    time.time_ns = lambda: now_ns() + _CLOCK_SHIFT * 10**9
    time.localtime = lambda seconds=None: local(now() + _CLOCK_SHIFT if seconds is None else seconds)
    time.gmtime = lambda seconds=None: utc(now() + _CLOCK_SHIFT if seconds is None else seconds)
    moved = datetime.timedelta(seconds=_CLOCK_SHIFT)

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:  # what isn't made here counts as well
            return isinstance(value, cls.__bases__[0])

    class Date(_Date, metaclass=Kind):
        @classmethod
        def today(cls) -> Any:
            return (_DateTime.now() + moved).date()

    class DateTime(_DateTime, metaclass=Kind):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return _DateTime.now(tz) + moved

        @classmethod
        def today(cls) -> Any:
            return _DateTime.now() + moved

        @classmethod
        def utcnow(cls) -> Any:
            return _DateTime.now(datetime.UTC).replace(tzinfo=None) + moved

    vars(datetime).update(date=Date, datetime=DateTime)
