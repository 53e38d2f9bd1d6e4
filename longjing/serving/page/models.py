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
from longjing.planning.bill import Prices
from longjing.runs.resolve import resolve, shipped
from longjing.serving.page.runs import Runs
from longjing.serving.service import Served, Service

_MOST = 2  # models that are loaded for the page beyond what is served


class Seat(NamedTuple):
    """Where one browser's answers of one model are shown: the chat, or a side of Compare."""

    session: str | None
    place: str


@dataclass
class _Guest:
    """A model that is loaded for the page: who looks at it, and how many answers it is giving."""

    served: Served
    seats: set[Seat] = field(default_factory=set)
    answers: int = 0


class Choices:
    """The models that may be asked for by name. `folder`: where runs lie. Nothing else is ever loaded for the page.

    What isn't served anyway stays loaded while a seat has it: until another model is asked from there, or the browser
    has left. There are never more than two such; for a third one, one that isn't answering has to go."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service, self._folder = service, folder
        self._guests: dict[str, _Guest] = {}  # the one that was asked last is the last
        self._changing, self._loading = threading.Lock(), threading.Lock()

    @property
    def prices(self) -> Prices:
        """What an answer costs."""
        return self._service.prices

    def names(self) -> list[str]:
        """What is served first, the default one at the top."""
        known = [*self._service.models, *(f"longjing-{name}" for name in shipped())]
        runs = [str(run) for run in Runs(self._folder).paths() if _has_model(run)]
        return list(dict.fromkeys(known + runs))

    @asynccontextmanager
    async def asked(self, name: str, seat: Seat) -> AsyncIterator[Served]:
        """The model, loaded, for as long as it answers to `seat`. Raises UserError for what is no choice, and when
        too many are answering."""
        loading = asyncio.ensure_future(asyncio.to_thread(self._take, name, seat))
        try:
            served = await asyncio.shield(loading)
        except asyncio.CancelledError:  # the thread loads it all the same
            loading.add_done_callback(lambda done: None if done.exception() else self._done(name))
            raise
        try:
            yield served
        finally:
            await asyncio.to_thread(self._done, name)

    def left(self, request: gr.Request) -> None:
        """A browser has left: free what nobody else looks at."""
        with self._changing:
            for guest in self._guests.values():
                guest.seats = {seat for seat in guest.seats if seat.session != request.session_hash}
            self._free()

    def _take(self, name: str, seat: Seat) -> Served:
        with self._changing:
            for guest in self._guests.values():
                guest.seats.discard(seat)
            if served := self._service.models.get(name) or self._joined(name, seat):
                self._free()
                return served
        if name not in self.names():
            raise UserError(f"{name!r} is no model of this page; reload it to see those that are")
        with self._loading:
            with self._changing:
                if served := self._joined(name, seat):  # somebody else has just loaded it
                    return served
                self._make_room()
            served = self._service.lend(name.removeprefix("longjing-"))
            with self._changing:
                self._guests[name] = _Guest(served, {seat}, answers=1)
            return served

    def _joined(self, name: str, seat: Seat) -> Served | None:
        guest = self._guests.pop(name, None)
        if guest is None:
            return None
        self._guests[name] = guest
        guest.seats.add(seat)
        guest.answers += 1
        return guest.served

    def _make_room(self) -> None:
        self._free()
        while len(self._guests) >= _MOST:
            idle = [name for name, guest in self._guests.items() if not guest.answers]
            if not idle:
                raise UserError(
                    "two other models are answering, and no third one is loaded beside them; ask later"
                )
            self._service.take_back(self._guests.pop(idle[0]).served)

    def _done(self, name: str) -> None:
        with self._changing:
            if guest := self._guests.get(name):
                guest.answers -= 1
                self._free()

    def _free(self) -> None:
        """What nobody looks at and what isn't answering."""
        for name in [name for name, guest in self._guests.items() if not (guest.seats or guest.answers)]:
            self._service.take_back(self._guests.pop(name).served)


def _has_model(run: Path) -> bool:
    try:
        return (resolve(run) / "config.json").exists()
    except UserError:
        return False
