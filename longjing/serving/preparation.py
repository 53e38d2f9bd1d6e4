"""Where requests are prepared.

Before a request waits for the engine, its messages are rendered and encoded, and its schema is compiled. All of that
ends, and lets others run meanwhile; a pool bounds how many are at it at once, and how many wait.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from longjing.serving.errors import QueueFull

T = TypeVar("T")


class BoundedPool:
    """`threads` of its own, and at most `capacity` calls that run or wait."""

    def __init__(self, name: str, threads: int, capacity: int) -> None:
        self._pool = ThreadPoolExecutor(threads, name)
        self._free = threading.Semaphore(capacity)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raises. Raises QueueFull if too many wait already."""
        if not self._free.acquire(blocking=False):
            raise QueueFull(5)
        future = self._pool.submit(work)
        # Not before it has ended, though the client may have left.
        future.add_done_callback(lambda _: self._free.release())
        return await asyncio.wrap_future(future)
