"""Which models the page lets people choose: what is served, what is shipped, and what runs have made."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from longjing.errors import UserError
from longjing.runs.models import at_hand
from longjing.runs.resolve import holds_model, resolve
from longjing.serving.page.runs import Runs
from longjing.serving.served_model import ServedModel
from longjing.serving.service import Service

_MAX_LOADED = 2  # models that are loaded for the page beyond what is served


class Seat(NamedTuple):
    """Where one browser's answers of one model are shown: the chat, or a side of Compare."""

    session: str | None
    pane: str


@dataclass
class _Loaded:
    """A model that is loaded for the page: who looks at it, and how many answers it is giving."""

    served: ServedModel
    seats: set[Seat] = field(default_factory=set)
    answers: int = 0


class ModelPool:
    """The models that may be asked for by name. `folder`: where runs lie. Nothing else is ever loaded for the page.

    What isn't served anyway stays loaded while a seat has it: until another model is asked from there, or the browser
    has left. There are never more than two such; for a third one, one that isn't answering has to go."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder, self.prices = service, folder, service.prices
        self._loaded: dict[str, _Loaded] = {}  # the one that was asked last is the last
        self._changing, self._loading = threading.Lock(), threading.Lock()

    def names(self) -> list[str]:
        """What may be asked for: what is served first, the default one at the top."""
        names = [*self._service.models, *(f"longjing-{name}" for name in at_hand())]
        runs = [str(run) for run in Runs(self._folder).paths() if _has_model(run)]
        return list(dict.fromkeys(names + runs))

    @asynccontextmanager
    async def use(self, name: str, seat: Seat) -> AsyncIterator[ServedModel]:
        """The model, loaded while it answers to `seat`. Raises UserError for no choice, or too many that answer."""
        loading = asyncio.ensure_future(asyncio.to_thread(self._take, name, seat))
        try:
            served = await asyncio.shield(loading)
        except asyncio.CancelledError:  # the thread loads it all the same
            loading.add_done_callback(lambda done: None if done.exception() else self._answered(name))
            raise
        try:
            yield served
        finally:
            await asyncio.to_thread(self._answered, name)

    def release_session(self, request: gr.Request) -> None:
        """A browser has left: free what nobody else looks at."""
        with self._changing:
            for loaded in self._loaded.values():
                loaded.seats = {seat for seat in loaded.seats if seat.session != request.session_hash}
            self._free()

    def _take(self, name: str, seat: Seat) -> ServedModel:
        with self._changing:
            for loaded in self._loaded.values():
                loaded.seats.discard(seat)
            if served := self._service.models.get(name) or self._join(name, seat):
                self._free()
                return served
        if name not in self.names():
            raise UserError(f"{name!r} is no model of this page; reload it to see those that are")
        with self._loading:
            with self._changing:
                if served := self._join(name, seat):  # somebody else has just loaded it
                    return served
                self._make_room()
            served = self._service.load_private(name.removeprefix("longjing-"))
            with self._changing:
                self._loaded[name] = _Loaded(served, {seat}, answers=1)
            return served

    def _join(self, name: str, seat: Seat) -> ServedModel | None:
        loaded = self._loaded.pop(name, None)
        if loaded is None:
            return None
        self._loaded[name] = loaded
        loaded.seats.add(seat)
        loaded.answers += 1
        return loaded.served

    def _make_room(self) -> None:
        self._free()
        while len(self._loaded) >= _MAX_LOADED:
            idle = [name for name, entry in self._loaded.items() if not entry.answers]
            if not idle:
                raise UserError("two other models are answering, and no third one is loaded beside them; ask later")
            self._service.unload(self._loaded.pop(idle[0]).served)

    def _answered(self, name: str) -> None:
        with self._changing:
            if loaded := self._loaded.get(name):
                loaded.answers -= 1
                self._free()

    def _free(self) -> None:
        """Unload what nobody looks at and what isn't answering."""
        for name in [name for name, loaded in self._loaded.items() if not (loaded.seats or loaded.answers)]:
            self._service.unload(self._loaded.pop(name).served)


def _has_model(run: Path) -> bool:
    try:
        path = resolve(run)
        return path.is_file() or holds_model(path)
    except UserError:
        return False
