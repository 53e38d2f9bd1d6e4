"""The API: its paths, and how its errors look. What OpenAI's clients expect, and nothing stored."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

import longjing
from longjing.errors import UserError
from longjing.serving.chat import ChatReply
from longjing.serving.completions import CompletionReply
from longjing.serving.door import Door, refuse_key
from longjing.serving.errors import Busy, Closed, Refused
from longjing.serving.http import (
    ClientDisconnected,
    Cors,
    EventStream,
    RequestCounter,
    error,
    error_body,
    unless_gone,
)
from longjing.serving.items import Items
from longjing.serving.lanes import Lanes
from longjing.serving.messages import Misplaced
from longjing.serving.metrics import Metrics
from longjing.serving.responses import ResponsesReply
from longjing.serving.responses_request import ResponsesRequest
from longjing.serving.schemas import ChatRequest, CompletionRequest
from longjing.serving.service import Served, Service
from longjing.serving.worker import Job, ResponseStream
from longjing.validation import reason


@dataclass(frozen=True)
class ApiConfig:
    """Whom the server serves. `seconds`: the longest that a request may take; `request_bytes`: the largest; `origins`:
    the pages that may call the API; `hosts`: the names it may be called by, None for any. Raises UserError for a key
    that is none."""

    key: str | None = None
    seconds: float = 600.0
    request_bytes: int = 8 << 20
    origins: Sequence[str] = ()
    hosts: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.key is not None:
            refuse_key(self.key, "the key")


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Any refusal."""

    error: ErrorDetail


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: str
    object: str = "model"
    created: int
    owned_by: str = "longjing"


class ModelList(BaseModel):
    object: str = "list"
    data: list[Model]


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


def build(service: Service, rules: ApiConfig | None = None) -> FastAPI:
    """The application for `service`, which must have a model. The metrics hear of its jobs from now on."""
    rules = rules or ApiConfig()
    app = FastAPI(
        title="Longjing", version=longjing.__version__, docs_url=None, redoc_url=None, responses=_REFUSALS,
        description="An OpenAI-compatible API with the reasoning shown.",
    )  # fmt: skip
    metrics = Metrics(lambda: _gauges(service))
    service.on_end = metrics.ended
    app.state.gate = None
    app.add_middleware(
        Door, key=rules.key, hosts=rules.hosts, most=rules.request_bytes, seconds=rules.seconds
    )
    if rules.origins:
        app.add_middleware(
            Cors, allow_origins=rules.origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["Retry-After"],
        )  # fmt: skip
    app.state.open_requests = 0
    app.add_middleware(RequestCounter, note=lambda path, status: metrics.requests.labels(path, status).inc())
    _explain_errors(app, rules)
    lanes = Lanes(4 * max((served.worker.most for served in service.models.values()), default=64))
    kept = Items()

    async def prepared(request: Request, bound: bool, work: Callable[[], list[Job]]) -> list[Job]:
        """In a thread: a long prompt must not hold up everybody's stream."""
        return await lanes.of(len(await request.body()), bound).run(work)

    def served_as(name: str | None) -> Served:
        served = service.find(name)
        if served is None:
            raise _NotFound(f"no model {name!r}; served are {', '.join(service.models)}")
        return served

    async def answer(
        request: Request, served: Served, jobs: list[Job], reply: Any, stream: bool | None
    ) -> Response:
        mailbox = served.worker.submit(jobs)
        if stream:
            named = isinstance(reply, ResponsesReply)
            return EventStream(_guarded(reply, served, mailbox, rules.seconds), named)
        try:
            async with asyncio.timeout(rules.seconds):
                pieces = await unless_gone(request, mailbox.whole())
        finally:
            served.worker.cancel(jobs)
        return JSONResponse(reply.whole(mailbox, pieces))

    @app.post("/v1/chat/completions", responses=_STREAMED)
    async def chat_completions(request: Request, asked: ChatRequest) -> Response:
        """Answer a conversation; the reasoning comes apart from the answer."""
        served = served_as(asked.model)
        jobs = await prepared(request, asked.bound, lambda: served.chat(asked))
        return await answer(request, served, jobs, ChatReply(asked, served), asked.stream)

    @app.post("/v1/completions", responses=_STREAMED)
    async def completions(request: Request, asked: CompletionRequest) -> Response:
        """Continue text as it stands."""
        served = served_as(asked.model)
        jobs = await prepared(request, False, lambda: served.complete(asked))
        return await answer(request, served, jobs, CompletionReply(asked, served), asked.stream)

    @app.post("/v1/responses", responses=_STREAMED)
    async def responses(request: Request, asked: ResponsesRequest) -> Response:
        """Answer in OpenAI's newer form."""
        served = served_as(asked.model)
        with asked.in_own_names():
            chat = asked.as_chat(kept)
            jobs = await prepared(request, chat.bound, lambda: served.chat(chat))
        return await answer(request, served, jobs, ResponsesReply(asked, served, kept), asked.stream)

    @app.get("/v1/models")
    async def models() -> ModelList:
        """What is served; the first is the default."""
        return ModelList(data=[_model(served) for served in service.models.values()])

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Model:
        """One of them."""
        return _model(served_as(name))

    @app.get("/health")
    async def health(request: Request) -> JSONResponse:
        """Whether all engines run; which models there are is for those who have the key."""
        broken = [name for name, served in service.models.items() if served.worker.failure is not None]
        known = request.scope["known"]
        if broken:
            return error(
                503, f"the engine of {', '.join(broken) if known else 'a model'} broke; see the server's log"
            )
        return JSONResponse({"status": "ok"} | ({"models": list(service.models)} if known else {}))

    @app.get("/metrics", response_class=PlainTextResponse)
    async def prometheus() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


class _NotFound(Exception):
    pass


async def _guarded(
    reply: Any, served: Served, mailbox: ResponseStream, seconds: float
) -> AsyncIterator[dict[str, Any] | str]:
    """The events; when it takes too long, or something breaks, an error in their place. However it ends, no job goes
    on that nobody reads."""

    def broken(status: int, message: str) -> dict[str, Any]:
        body = error_body(status, message)
        if isinstance(reply, ResponsesReply):
            return reply.numbered(body | {"type": "error", "message": message, "code": None, "param": None})
        return body | {"type": "error"}

    events, deadline = reply.events(mailbox), time.monotonic() + seconds
    try:
        while True:
            async with asyncio.timeout(deadline - time.monotonic()):
                event = await anext(events)
            yield event
    except StopAsyncIteration:
        pass
    except TimeoutError:
        yield broken(504, _slow(seconds))
    except Closed as problem:
        yield broken(503, str(problem))
    except Refused as problem:
        yield broken(400, str(problem))
    except Exception as problem:
        yield broken(500, f"the engine broke: {problem}")
    finally:
        served.worker.cancel(mailbox.jobs)


def _slow(seconds: float) -> str:
    return f"it took longer than the {seconds:g} s that this server allows; ask for fewer tokens"


def _model(served: Served) -> Model:
    return Model(
        id=served.name, created=served.created, max_model_len=served.length, parameters=served.parameters
    )  # type: ignore[call-arg]


def _gauges(service: Service) -> Iterator[tuple[str, str, dict[str, float]]]:
    models = service.models.items()
    yield (
        "requests_open", "completions that wait or run",
        {name: served.worker.load for name, served in models},
    )  # fmt: skip
    yield (
        "cache_tokens", "tokens in the engine's cache, of completions that run",
        {name: served.engine.memory_in_use for name, served in models},
    )  # fmt: skip
    yield (
        "reused_tokens", "tokens of prompts that were not read again",
        {name: served.engine.stats.tokens_reused for name, served in models},
    )  # fmt: skip


def _explain_errors(app: FastAPI, rules: ApiConfig) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, problem: Refused) -> Response:
        return error(400, str(problem), parameter=problem.parameter, code=problem.code)

    @app.exception_handler(UserError)
    async def impossible(request: Request, problem: UserError) -> Response:
        return error(400, str(problem))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, problem: RequestValidationError) -> Response:
        first, *others = problem.errors()
        same = [other for other in others if other["loc"][:2] == first["loc"][:2]]
        first = max(
            [first, *same], key=lambda one: len(one["loc"])
        )  # of several forms the one that is nearest
        place = [str(part)[:64] for part in first["loc"][1:]]
        place = [part for part in place if part.isidentifier() or part.isdigit()] or place[:1]
        text = reason(first)
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, Misplaced):
            place, text = [*place, cause.field], cause.text
        elif first["type"] == "value_error" and not place:  # our own, which begins with the field's path
            return error(400, text, parameter=text.partition(":")[0].partition(".")[0])
        if first["type"] == "extra_forbidden":
            text = "unknown, or not supported here"
        if first["type"] == "json_invalid":
            return error(400, f"the body is no JSON: {first.get('ctx', {}).get('error', text)}")
        name = place[0] if place else None
        return error(400, f"{'.'.join(place) or 'the body'}: {text}", parameter=name)

    @app.exception_handler(_NotFound)
    async def not_found(request: Request, problem: _NotFound) -> Response:
        return error(404, str(problem), parameter="model", code="model_not_found")

    @app.exception_handler(Busy)
    async def busy(request: Request, problem: Busy) -> Response:
        return error(429, str(problem), code="queue_full", headers={"Retry-After": str(problem.retry_after)})

    @app.exception_handler(Closed)
    async def closed(request: Request, problem: Closed) -> Response:
        return error(503, str(problem), headers={"Retry-After": "5"})

    @app.exception_handler(TimeoutError)
    async def slow(request: Request, problem: TimeoutError) -> Response:
        return error(504, _slow(rules.seconds))

    @app.exception_handler(RecursionError)
    async def deep(request: Request, problem: RecursionError) -> Response:
        return error(400, "the request is nested too deeply")

    @app.exception_handler(ClientDisconnected)
    async def gone(request: Request, problem: ClientDisconnected) -> Response:
        return error(499, "the client left")  # read by nobody but the log

    @app.exception_handler(Exception)
    async def broke(request: Request, problem: Exception) -> Response:
        return error(500, "the server has a defect; see its log")

    @app.exception_handler(HTTPException)
    async def http(request: Request, problem: HTTPException) -> Response:
        text = str(problem.detail)
        if problem.status_code in (404, 405):
            text = f"{request.method} {request.url.path[:200]}: {text}; /openapi.json tells what there is"
        return error(problem.status_code, text, headers=problem.headers)
