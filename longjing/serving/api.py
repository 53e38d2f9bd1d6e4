"""The API: its paths, what OpenAI's clients expect at each, and nothing stored."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

import longjing
from longjing.errors import UserError
from longjing.serving.chat_completions import ChatReply
from longjing.serving.completions import CompletionReply
from longjing.serving.error_responses import (
    QueueFull,
    ServiceClosed,
    add_error_handlers,
    error_body,
    error_response,
    too_slow,
)
from longjing.serving.event_stream import EventStream, unless_disconnected
from longjing.serving.metrics import Metrics
from longjing.serving.middleware import ApiCorsMiddleware, AuthMiddleware, RequestCounter
from longjing.serving.response_stream import Job, ResponseStream
from longjing.serving.responses import ResponsesReply
from longjing.serving.responses_request import ItemStore, ResponsesRequest
from longjing.serving.schemas import ChatRequest, CompletionRequest
from longjing.serving.served_model import ServedModel
from longjing.serving.service import Service

Reply = ChatReply | CompletionReply | ResponsesReply


@dataclass(frozen=True)
class ApiConfig:
    """Whom the server serves. `key`: asked of everybody; `seconds`: the longest that a request may take;
    `request_bytes`: the largest; `origins`: the pages that may call the API; `hosts`: the names it may be called by,
    None for any. Raises UserError for a key that would protect nothing, or that no header carries."""

    key: str | None = None
    seconds: float = 600.0
    request_bytes: int = 8 << 20
    origins: Sequence[str] = ()
    hosts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        name, key = "--api-key or LONGJING_API_KEY", self.key
        if key is not None and not key.strip():
            raise UserError(f"{name} is empty: give a key, or leave it out to serve without one")
        if key is not None and (key != key.strip() or not key.isprintable()):
            text = "a key can't begin or end with white space, nor hold line breaks or other control characters"
            raise UserError(f"{name}: {text}")


class ErrorDetail(BaseModel):
    """What is wrong, in OpenAI's form."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Any refusal."""

    error: ErrorDetail


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "longjing"
    max_model_len: int
    parameters: int


class ModelList(BaseModel):
    """All of them."""

    object: str = "list"
    data: list[Model]


_LARGE = 100_000  # bytes of a request's body
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "it can't be honoured; `param` is to blame",
        401: "no key, or a wrong one",
        403: "called by a name that isn't the server's",
        404: "no such model",
        408: "it didn't come in time",
        413: "larger than the server takes",
        429: "the queue is full; see Retry-After",
        503: "the server is about to leave, or broke",
        504: "it took longer than the server allows",
    }.items()
}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "the reply, or with `stream` its pieces", "content": {"text/event-stream": {}}}
}


def build(service: Service, config: ApiConfig | None = None) -> FastAPI:
    """The application for `service`, which must have a model. The metrics hear of its jobs from now on."""
    config = config or ApiConfig()
    app = FastAPI(
        title="Longjing", version=longjing.__version__, docs_url=None, redoc_url=None, responses=_REFUSALS,
        description="An OpenAI-compatible API with the reasoning shown.",
    )  # fmt: skip
    metrics = Metrics(service)
    app.state.gate = None
    app.add_middleware(
        AuthMiddleware, key=config.key, hosts=config.hosts, max_bytes=config.request_bytes, seconds=config.seconds
    )  # fmt: skip
    if config.origins:
        app.add_middleware(
            ApiCorsMiddleware, allow_origins=config.origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["Retry-After"],
        )  # fmt: skip
    app.state.open_requests = 0
    app.add_middleware(RequestCounter, note=lambda path, status: metrics.requests.labels(path, status).inc())
    add_error_handlers(app, config.seconds)
    endpoints = _Endpoints(service, config.seconds, metrics)
    app.post("/v1/chat/completions", responses=_STREAMED)(endpoints.chat_completions)
    app.post("/v1/completions", responses=_STREAMED)(endpoints.completions)
    app.post("/v1/responses", responses=_STREAMED)(endpoints.responses)
    app.get("/v1/models")(endpoints.models)
    app.get("/v1/models/{name:path}")(endpoints.model)
    app.get("/health")(endpoints.health)
    app.get("/metrics", response_class=PlainTextResponse)(endpoints.prometheus)
    return app


class _BoundedPool:
    """`threads` of its own, and at most `capacity` calls that run or wait.

    Before a request waits for the engine, its messages are rendered and encoded, and its schema is compiled: here.
    """

    def __init__(self, name: str, threads: int, capacity: int) -> None:
        self._pool, self._free = ThreadPoolExecutor(threads, name), threading.Semaphore(capacity)

    async def run(self, work: Callable[[], list[Job]]) -> list[Job]:
        """The result of `work`, or what it raises. Raises QueueFull if too many wait already."""
        if not self._free.acquire(blocking=False):
            raise QueueFull(5)
        future = self._pool.submit(work)
        # Not before it has ended, though the client may have left.
        future.add_done_callback(lambda _: self._free.release())
        return await asyncio.wrap_future(future)


class _Endpoints:
    """What is answered at each path. `seconds`: the longest that a request may take."""

    def __init__(self, service: Service, seconds: float, metrics: Metrics) -> None:
        self._service, self._seconds, self._metrics = service, seconds, metrics
        capacities = (model.worker.capacity for model in service.models.values())
        # Apart by what they may cost, so that the costly ones wait for each other and not others.
        self._small = _BoundedPool("small", 4, 4 * max(capacities, default=64))
        self._large, self._bound = _BoundedPool("large", 1, 16), _BoundedPool("bound", 2, 64)
        self._items = ItemStore()

    async def chat_completions(self, request: Request, body: ChatRequest) -> Response:
        """Answer a conversation; the reasoning comes apart from the answer."""
        model = self._service.find(body.model)
        jobs = await self._prepare(request, body.has_grammar, lambda: model.chat(body))
        return await self._answer(request, model, jobs, ChatReply(body, model), body.stream)

    async def completions(self, request: Request, body: CompletionRequest) -> Response:
        """Continue text as it stands."""
        model = self._service.find(body.model)
        jobs = await self._prepare(request, False, lambda: model.complete(body))
        return await self._answer(request, model, jobs, CompletionReply(body, model), body.stream)

    async def responses(self, request: Request, body: ResponsesRequest) -> Response:
        """Answer in OpenAI's newer form."""
        model = self._service.find(body.model)
        with body.in_own_names():
            chat = body.as_chat(self._items)
            jobs = await self._prepare(request, chat.has_grammar, lambda: model.chat(chat))
        return await self._answer(request, model, jobs, ResponsesReply(body, model, self._items), body.stream)

    async def models(self) -> ModelList:
        """What is served; the first is the default."""
        return ModelList(data=[_described(model) for model in self._service.models.values()])

    async def model(self, name: str) -> Model:
        """One of them."""
        return _described(self._service.find(name))

    async def health(self, request: Request) -> JSONResponse:
        """Whether all engines run; which models there are is for those who have the key."""
        models, has_key = self._service.models, request.scope["has_key"]
        broken = ", ".join(name for name, model in models.items() if model.worker.failure is not None)
        if broken:
            return error_response(503, f"the engine of {broken if has_key else 'a model'} broke; see the server's log")
        return JSONResponse({"status": "ok"} | ({"models": list(models)} if has_key else {}))

    async def prometheus(self) -> Response:
        """For Prometheus."""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _prepare(self, request: Request, bound: bool, work: Callable[[], list[Job]]) -> list[Job]:
        """The result of `work`, done in a thread: a long prompt must not hold up everybody's stream. `bound`: it has a
        schema, or tools that a grammar keeps to theirs."""
        large = len(await request.body()) > _LARGE
        return await (self._bound if bound else self._large if large else self._small).run(work)

    async def _answer(
        self, request: Request, model: ServedModel, jobs: list[Job], reply: Reply, streams: bool | None
    ) -> Response:
        stream = model.worker.submit(jobs)
        if streams:
            events = _guarded(reply, model, stream, self._seconds)
            return EventStream(events, named=isinstance(reply, ResponsesReply))
        try:
            async with asyncio.timeout(self._seconds):
                deltas = await unless_disconnected(request, stream.collect())
        finally:
            model.worker.cancel(jobs)
        return JSONResponse(reply.complete(stream, deltas))


async def _guarded(
    reply: Reply, model: ServedModel, stream: ResponseStream, seconds: float
) -> AsyncIterator[dict[str, Any] | str]:
    """The events, an error in place of those that fail to come. However it ends, no job goes on that nobody reads."""

    def broken(status: int, message: str) -> dict[str, Any]:
        body = error_body(status, message)
        if isinstance(reply, ResponsesReply):
            return reply.numbered(body | {"type": "error", "message": message, "code": None, "param": None})
        return body | {"type": "error"}

    events, deadline = reply.events(stream), time.monotonic() + seconds
    try:
        while True:
            async with asyncio.timeout(deadline - time.monotonic()):
                event = await anext(events)
            yield event
    except StopAsyncIteration:
        pass
    except TimeoutError:
        yield broken(504, too_slow(seconds))
    except ServiceClosed as problem:
        yield broken(503, str(problem))
    except UserError as problem:
        yield broken(400, str(problem))
    except Exception as problem:
        yield broken(500, f"the engine broke: {problem}")
    finally:
        model.worker.cancel(stream.jobs)


def _described(model: ServedModel) -> Model:
    return Model(id=model.name, created=model.created, max_model_len=model.context, parameters=model.parameters)
