"""Where requests are prepared: apart by what they may cost, so that the costly ones wait for each other and not others.

Before a request waits for the engine, its messages are rendered and encoded, and its schema is compiled. All of that
ends, and lets others run meanwhile; a lane bounds how many are at it at once, and how many wait.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from longjing.serving.errors import Busy

_LARGE = 100_000  # bytes of a request's body
T = TypeVar("T")


class Lane:
    """`width` at once, in threads of their own, and at most `most` with those that wait."""

    def __init__(self, name: str, width: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(width, name)
        self._places = threading.Semaphore(most)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raises. Raises Busy if too many wait already."""
        if not self._places.acquire(blocking=False):
            raise Busy(5)
        future = self._pool.submit(work)
        future.add_done_callback(
            lambda _: self._places.release()
        )  # not before, though the client may have left
        return await asyncio.wrap_future(future)


class Lanes:
    """One for what is small, one for what is large, one for what a grammar binds. `most`: small ones, at once."""

    def __init__(self, most: int) -> None:
        self._small, self._large, self._bound = (
            Lane("small", 4, most),
            Lane("large", 1, 16),
            Lane("bound", 2, 64),
        )

    def of(self, size: int, bound: bool) -> Lane:
        """For a body of `size` bytes; `bound`: it has a schema, or tools that a grammar keeps to theirs."""
        return self._bound if bound else self._large if size > _LARGE else self._small
