"""A server that listens, with a small network that says anything at all, or with the shipped r1."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import pytest
import tiny
from fastapi import FastAPI

from longjing.serving.api import ApiConfig, build
from longjing.serving.middleware import allowed_hosts
from longjing.serving.served_model import ServedModel
from longjing.serving.server import Server, address, listen, run
from longjing.serving.service import EngineLimits, Service


@dataclass(frozen=True)
class Running:
    """A server that listens at `url`."""

    url: str
    service: Service

    @property
    def served(self) -> ServedModel:
        """The default model."""
        return next(iter(self.service.models.values()))


# Whatever is said of requests, sizes and clients holds with the page on and off.
BOTH = {"test_fuzz", "test_limits", "test_chaos", "test_middleware"}
page_is_on = False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ in BOTH:
        metafunc.parametrize("with_page", [False, True], ids=["api", "page"], indirect=True, scope="session")


# Of an engine. Many servers live at once here, and a process that has reserved more than the machine has can't fork.
CACHE = 64 << 20


@pytest.fixture(scope="session", autouse=True)
def patience() -> Iterator[None]:
    """HTTPX gives up after 5 seconds, which is too soon on a machine that does much else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get", "post", "request", "stream"):
            patch.setattr(httpx, name, partial(getattr(httpx, name), timeout=60))
        yield


@pytest.fixture(scope="session", autouse=True)
def with_page(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the servers of a test have the page."""
    global page_is_on
    page_is_on = getattr(request, "param", False)
    yield page_is_on
    page_is_on = False


def application(service: Service, config: ApiConfig | None = None, bound: str = "127.0.0.1") -> FastAPI:
    """What `longjing serve` serves on `bound`."""
    config = config or ApiConfig()
    app = build(service, replace(config, hosts=allowed_hosts(bound, config.hosts or ())))
    if page_is_on:
        from longjing.serving.page import mount  # which takes a second to import

        mount(app, service, Path(tempfile.gettempdir(), "longjing-no-runs"), key=config.key, endpoints=False)
    return app


@contextmanager
def serving(service: Service, config: ApiConfig | None = None, app: FastAPI | None = None) -> Iterator[Running]:
    """Serve in a thread, for as long as the block runs."""
    bound = listen("127.0.0.1", 0)
    up: SimpleQueue[Server] = SimpleQueue()
    app = app or application(service, config)
    thread = threading.Thread(target=run, args=(app, service, bound, 1, up.put), daemon=True)
    thread.start()
    server = up.get(timeout=30)
    try:
        yield Running(address(bound), service)
    finally:
        server.should_exit = True
        thread.join(timeout=15)
        assert not thread.is_alive()


def small(limits: EngineLimits | None = None, **settings: Any) -> Service:
    """A service with a random network, which goes on until it is cut off."""
    limits = limits or EngineLimits(rows=16, queue=64)
    service = Service(limits=replace(limits, cache_bytes=min(limits.cache_bytes, CACHE)))
    service.serve(
        "tiny", tiny.network("deepseek_v3", **({"max_position_embeddings": 512} | settings)), tiny.tokenizer()
    )
    return service


@pytest.fixture(scope="session")
def tiny_server(with_page: bool) -> Iterator[Running]:
    with serving(small()) as running:
        yield running


@pytest.fixture(scope="session")
def r1_server(with_page: bool) -> Iterator[Running]:
    service = Service("cpu", limits=EngineLimits(cache_bytes=CACHE))
    service.load("r1")
    with serving(service) as running:
        yield running
