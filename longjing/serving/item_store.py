"""The items of replies to POST /v1/responses that clients refer to by their ids later, as the AI SDK does."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json

from longjing.chat.errors import InvalidRequest

Item = Mapping[str, Any]


class ItemStore:
    """Keeps the latest, in memory and up to `max_bytes`; where more come, the oldest are forgotten."""

    def __init__(self, max_bytes: int = 16 << 20) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._items: OrderedDict[str, tuple[Item, int]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, items: Iterable[Item]) -> None:
        """Keep each of them under its `id`."""
        with self._lock:
            for item in items:
                size = len(to_json(item))
                self._items[item["id"]] = item, size
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, (_, size) = self._items.popitem(last=False)
                self._bytes -= size

    def find(self, id: str, index: int) -> Item:
        """The item of this id. Raises InvalidRequest, with its index in the `input`, if it is not there."""
        with self._lock:
            if id not in self._items:
                raise InvalidRequest(
                    f"input.{index}.id: nothing is known here of {id[:64]!r}: it was never here, store was false, or "
                    "it is forgotten; send the item itself (with store = false clients do)",
                    "input",
                )  # fmt: skip
            return self._items[id][0]
