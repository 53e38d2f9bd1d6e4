"""Runs recipes in processes that can be killed: `python resume_worker.py`, orders as JSON lines on stdin.

Each order is run in a fork of this process, which has imported everything and computed nothing: as fresh as a
new process, without the seconds that the imports take. The answer is its exit status, on a line. An order's
`seconds` are what it lives at most; its `strike` has it kill itself at one exact moment.
"""

import errno
import importlib
import io
import json
import math
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import tiny
import torch._dynamo  # noqa: F401  the first optimiser imports it, which takes longer than a whole run here
from rich.console import Console

from longjing.errors import UserError
from longjing.problems import registry
from longjing.recipe.loading import load
from longjing.recipe.running import run_recipe


def arm(point: str, turn: int, mode: str) -> None:
    """Strike at the call number `turn` of the function at `place` ("module:object.function"): `before` it,
    `after` it, in the middle of what it writes (`cut`), or as if the disk were `full` from then on."""
    module, path = point.split(":")
    *parents, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    function = getattr(owner, name)
    calls = 0

    def struck(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < turn:
            return function(*arguments, **options)
        if mode == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if mode != "before":
            function(*arguments, **options)
        if mode == "cut":
            file = arguments[1] if name == "save_file" else arguments[0].path
            size = os.path.getsize(file)
            os.truncate(file, size // 2 if name == "save_file" else size - 9)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")

    setattr(owner, name, struck)


def work(recipe: str, out: str, strike: list[Any] | None) -> int:
    """Run the recipe; returns the exit status, as the command does."""
    registry._TASKS["letters"] = tiny.Letters  # type: ignore[assignment]
    if strike:
        arm(*strike)
    try:
        run_recipe(load(recipe), Path(out), Console(file=io.StringIO()))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        end = time.monotonic() + (order.pop("seconds") or math.inf)
        process = os.fork()
        if process == 0:
            status = 1
            try:
                status = work(**order)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        ended, status = 0, 0
        while not ended:
            time.sleep(0.001)
            if time.monotonic() > end:
                os.kill(process, signal.SIGKILL)
            ended, status = os.waitpid(process, os.WNOHANG)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
