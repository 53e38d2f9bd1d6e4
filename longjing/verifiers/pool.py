"""A pool of processes that judge, each of which can be stopped at any moment and fall over without harm.

A model may write anything, `9^{9^{9^9}}` for one, and computer algebra will try; a regular expression may take longer
than the universe has. No alarm inside a process stops either for sure, so another process does the work: it has
limits on memory and time, and is killed and replaced when it passes them.

Who is to blame then is found out in one way for all: a question may come with a `baseline`, the same question without
the answer. If nobody can answer that either, the problem or the verifier is at fault, else the answer is.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import LifoQueue
from subprocess import DEVNULL, PIPE
from typing import Any

_PROGRAM = Path(__file__).with_name("worker.py")
_START_SECONDS = 60.0  # seconds that the work's libraries may take to load
_GRACE_SECONDS = 1.0  # seconds beyond a question's, in which a process whose kernel keeps the time says so
_MOST_CACHED = 100_000  # questions; many samples say the same


class VerifierError(Exception):
    """The verifier itself failed: nothing is known about the answer."""


class AnswerError(Exception):
    """The verifier failed on this answer, while without it nothing fails: the answer is wrong."""


class Pool:
    """Processes that do one kind of `work` (see `worker.py`), at most `size` of them, each started when it is needed.

    A question takes at most `seconds`, and its process at most `megabytes` (where the system can limit that). Any
    number of threads may ask. The processes end with the pool.
    """

    def __init__(self, work: str, size: int, seconds: float, megabytes: int) -> None:
        self.work, self.size, self.seconds, self.megabytes = work, size, seconds, megabytes
        self._idle: LifoQueue[_Worker | None] = LifoQueue()  # last in, first out: so that no more start than are needed
        for _ in range(size):
            self._idle.put(None)
        self._alive: set[_Worker] = set()
        self._cache: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _stop_all, self._alive)

    def ask(self, *question: Any, baseline: Sequence[Any] | None = None) -> Any:
        """The answer to a question, both JSON-able, in at most `seconds`. Raises VerifierError if nobody knows; that is
        remembered, too.

        `baseline`: the question without what a model wrote, such as that of the right answer. It is asked before, once,
        and may take half of the time. If it has an answer, AnswerError is raised instead of VerifierError.
        """
        seconds_spent = 0.0
        if baseline is not None:
            _, seconds_spent = self._cached(baseline, self.seconds / 2)
        try:
            return self._cached(question, self.seconds - seconds_spent)[0]
        except VerifierError as error:
            if baseline is None:
                raise
            raise AnswerError(str(error)) from None

    def _cached(self, question: Sequence[Any], seconds: float) -> tuple[Any, float]:
        """The answer, and the seconds that it took."""
        seconds_spent, line = 0.0, json.dumps(question)
        with self._lock:
            # `self` for nothing there: None is an answer like any other.
            answer = self._cache.get(line, self)
        if answer is self:
            answer, seconds_spent = self._answer(question, seconds)
            with self._lock:
                self._cache[line] = answer
                if len(self._cache) > _MOST_CACHED:
                    self._cache.popitem(last=False)
        if isinstance(answer, VerifierError):
            raise VerifierError(str(answer))
        return answer, seconds_spent

    def _answer(self, question: Sequence[Any], seconds: float) -> tuple[Any, float]:
        worker, healthy = self._idle.get(), None
        try:
            if worker is None:
                worker = _Worker(self.work, self.seconds, self.megabytes)
                self._alive.add(worker)
                worker.receive(_START_SECONDS, "starting")
            began = time.monotonic()
            reply = worker.ask(question, seconds)
            seconds_spent = time.monotonic() - began
            healthy = worker
        except VerifierError as error:
            return error, seconds
        finally:
            # One that was given up, by an interruption too, may yet answer: nobody must take that for another's.
            if worker is not None and healthy is None:
                worker.stop()
                self._alive.discard(worker)
            self._idle.put(healthy)
        if "died" in reply:
            failure = _failure(reply["died"] == "late", seconds, f"judging {_excerpt(question)}")
            return VerifierError(failure), seconds_spent
        return VerifierError(reply["error"]) if "error" in reply else reply["answer"], seconds_spent


def _excerpt(question: Sequence[Any]) -> str:
    return json.dumps(question)[:200]


def _failure(late: bool, seconds: float, task: str) -> str:
    return f"the process {f'took over {seconds:.3g} s' if late else 'failed'} {task}"


@cache
def shared(work: str, seconds: float, megabytes: int) -> Pool:
    """The pool of this process for that work, with a process for each CPU, four at most."""
    return Pool(work, min(4, os.cpu_count() or 1), seconds, megabytes)


class _Worker:
    def __init__(self, work: str, seconds: float, megabytes: int) -> None:
        self.keeps_time = work in ("mathematics", "regex")
        # -P: or the modules of this folder would hide those of the standard library.
        command = [sys.executable, "-P", str(_PROGRAM), work, str(seconds), str(megabytes)]
        # Some data sets are drawn in the order of a set of words: the same in every process.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, encoding="utf-8", process_group=0, env=environment
        )

    def ask(self, question: Sequence[Any], seconds: float) -> Any:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it fell over meanwhile, which shows when it is heard
            self.process.stdin.write(json.dumps([seconds, *question]) + "\n")
            self.process.stdin.flush()
        return self.receive(seconds + (_GRACE_SECONDS if self.keeps_time else 0), f"judging {_excerpt(question)}")

    def receive(self, seconds: float, task: str) -> Any:
        """Its next line. Raises VerifierError if it is late or gone."""
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        # Without poll, `readline` would wait for ever for a process that hangs.
        readable = poll.poll(1000 * seconds)
        line = self.process.stdout.readline() if readable else ""
        if not line.endswith("\n"):
            raise VerifierError(_failure(not readable, seconds, task))
        return json.loads(line)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # and its child
        self.process.communicate()


def _stop_all(workers: set[_Worker]) -> None:
    for worker in workers:
        worker.stop()
