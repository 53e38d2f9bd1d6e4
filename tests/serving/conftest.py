"""A server that listens, with a small network that says anything at all, or with the shipped r1."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import pytest
import tiny

from longjing.serving.api import Rules, build
from longjing.serving.server import Server, address, listen, run
from longjing.serving.service import Limits, Served, Service


@dataclass(frozen=True)
class Running:
    """A server that listens at `url`."""

    url: str
    service: Service

    @property
    def served(self) -> Served:
        """The default model."""
        return next(iter(self.service.models.values()))


@contextmanager
def serving(service: Service, rules: Rules | None = None) -> Iterator[Running]:
    """Serve in a thread, for as long as the block runs."""
    bound = listen("127.0.0.1", 0)
    up: SimpleQueue[Server] = SimpleQueue()
    app = build(service, rules)
    thread = threading.Thread(target=run, args=(app, service, bound, 1, up.put), daemon=True)
    thread.start()
    server = up.get(timeout=30)
    try:
        yield Running(address(bound), service)
    finally:
        server.should_exit = True
        thread.join(timeout=15)
        assert not thread.is_alive()


def small(limits: Limits | None = None, **settings: Any) -> Service:
    """A service with a random network, which goes on until it is cut off."""
    service = Service(limits=limits or Limits(rows=16, queue=64))
    service.serve(
        "tiny", tiny.network("deepseek_v3", **({"max_position_embeddings": 512} | settings)), tiny.tokenizer()
    )
    return service


@pytest.fixture(scope="session")
def tiny_server() -> Iterator[Running]:
    with serving(small()) as running:
        yield running


@pytest.fixture(scope="session")
def r1_server() -> Iterator[Running]:
    service = Service("cpu")
    service.load("r1")
    with serving(service) as running:
        yield running
