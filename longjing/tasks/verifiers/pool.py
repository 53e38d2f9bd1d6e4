"""A pool of processes that judge, each of which can be stopped at any moment and fall over without harm.

A model may write anything, `9^{9^{9^9}}` for one, and computer algebra will try; a regular expression may take longer
than the universe has. No alarm inside a process stops either for sure, so another process does the work: it has
limits on memory and time, and is killed and replaced when it passes them.
"""

import json
import os
import select
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import LifoQueue
from typing import Any

_PROGRAM = Path(__file__).with_name("worker.py")
_START = 60.0  # seconds that the work's libraries may take to load
_REMEMBERED = 100_000  # questions; many samples say the same


class VerifierError(Exception):
    """The verifier itself failed: nothing is known about the answer."""


class Pool:
    """Processes that do one kind of `work` (see `worker.py`), at most `size` of them, each started when it is needed.

    A question takes at most `seconds`, and its process at most `megabytes` (where the system can limit that). Any
    number of threads may ask. The processes end with the pool.
    """

    def __init__(self, work: str, size: int, seconds: float, megabytes: int) -> None:
        self.work, self.size, self.seconds, self.megabytes = work, size, seconds, megabytes
        self._idle: LifoQueue[_Worker | None] = LifoQueue()
        for _ in range(size):
            self._idle.put(None)
        self._alive: set[_Worker] = set()
        self._known: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _stop_all, self._alive)

    def ask(self, *question: Any) -> Any:
        """The answer to a question, both JSON-able. Raises VerifierError if nobody knows; that is remembered, too."""
        line = json.dumps(question)
        with self._lock:
            known = self._known.get(line, self)
        if known is self:
            known = self._find_out(line)
            with self._lock:
                self._known[line] = known
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        if isinstance(known, VerifierError):
            raise VerifierError(str(known))
        return known

    def _find_out(self, line: str) -> Any:
        worker, sound = self._idle.get(), None
        try:
            if worker is None:
                worker = _Worker(self.work, self.seconds, self.megabytes)
                self._alive.add(worker)
                worker.hear(_START, "starting")
            reply = worker.ask(line, self.seconds)
            sound = worker
        except VerifierError as error:
            return error
        finally:
            # One that was given up, by an interruption too, may yet answer: nobody must take that for another's.
            if worker is not None and sound is None:
                worker.stop()
                self._alive.discard(worker)
            self._idle.put(sound)
        return VerifierError(reply["error"]) if "error" in reply else reply["answer"]


@cache
def shared(work: str, seconds: float, megabytes: int) -> Pool:
    """The pool of this process for that work, with a process for each CPU, four at most."""
    return Pool(work, min(4, os.cpu_count() or 1), seconds, megabytes)


class _Worker:
    """One process."""

    def __init__(self, work: str, seconds: float, megabytes: int) -> None:
        self.process = subprocess.Popen(
            # -P: or the modules of this folder would hide those of the standard library.
            [sys.executable, "-P", str(_PROGRAM), work, str(seconds), str(megabytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            # Some data sets are drawn in the order of a set of words: the same in every process.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    def ask(self, line: str, seconds: float) -> Any:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it fell over meanwhile, which shows when it is heard
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.hear(seconds, f"judging {line[:200]}")

    def hear(self, seconds: float, task: str) -> Any:
        """Its next line. Raises VerifierError if it is late or gone."""
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        heard = poll.poll(1000 * seconds)
        line = self.process.stdout.readline() if heard else ""
        if not line.endswith("\n"):
            raise VerifierError(f"the process {'failed' if heard else f'took over {seconds:g} s'} {task}")
        return json.loads(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


def _stop_all(workers: set[_Worker]) -> None:
    for worker in workers:
        worker.stop()
