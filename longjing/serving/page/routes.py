"""What of Gradio is open: the page's own needs, listed, and nothing else that Gradio would answer."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import gradio as gr
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longjing.serving.error_responses import error_response
from longjing.serving.request_body import replay

_READ = (
    "/", "/theme.css", "/assets/{path:path}", "/static/js/{path:path}",
    "/gradio_api/app_id", "/gradio_api/heartbeat/{session_hash}",
)  # fmt: skip
_EVENTS = "/gradio_api/queue/data"
_CALLS = ("/gradio_api/queue/join", "/gradio_api/run/predict")
_CHANGE = ("/gradio_api/cancel", "/gradio_api/reset")
_FIELDS = ("data", "event_data", "fn_index", "trigger_id", "session_hash")
# Of a dict in what a browser sends: it would name a file for the server to fetch or copy, or a component to build.
_NEVER = {"path", "file", "component", "constructor_args"}
_DEEPEST = 20


def attach(app: FastAPI, blocks: gr.Blocks, gradio: ASGIApp) -> None:
    """Let `app` answer by `gradio` what the page of `blocks` needs."""
    anonymous = _Anonymous(gradio)
    routes = [Route(path, anonymous, methods=["GET"]) for path in _READ]
    routes.append(Route(_EVENTS, _Events(anonymous, blocks), methods=["GET"]))
    routes += [Route(path, _Called(anonymous, blocks), methods=["POST"]) for path in _CALLS]
    routes += [Route(path, anonymous, methods=["POST"]) for path in _CHANGE]
    app.router.routes.extend(routes)


class _Anonymous:
    """Without the `Origin`, to which Gradio's own rules would open the page. A call that fails is a 400: Gradio blames
    itself for whatever it was given; what isn't there is told as everywhere else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = 0

        async def checked_send(message: Message) -> None:
            nonlocal refused
            status = message["status"] if message["type"] == "http.response.start" else 0
            if scope["method"] == "GET" and status >= 400:
                refused = status
            if refused:
                return
            if status == 500 and scope["path"] in _CALLS:
                message["status"] = 400
            await send(message)

        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"origin"]
        await self._app({**scope, "headers": headers}, receive, checked_send)
        if refused:
            response = error_response(refused, f"GET {scope['path'][:200]}: there is no such thing here")
            await response(scope, receive, send)


class _Events:
    """What comes of a session's calls. Gradio finds too late that there is no such session, and breaks within its
    answer; the browser is told here, in the words that it knows."""

    def __init__(self, app: ASGIApp, blocks: gr.Blocks) -> None:
        self._app, self._blocks = app, blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = Request(scope).query_params.get("session_hash")
        if session in self._blocks._queue.pending_messages_per_session:
            return await self._app(scope, receive, send)
        event = {
            "msg": "unexpected_error", "event_id": None, "message": "this session is over: load the page again",
            "session_not_found": True, "success": False,
        }  # fmt: skip
        await Response(f"data: {json.dumps(event)}\n\n", media_type="text/event-stream")(scope, receive, send)


class _Called:
    """A call of one of the page's functions, held against what a browser sends."""

    def __init__(self, app: ASGIApp, blocks: gr.Blocks) -> None:
        self._app, self._blocks = app, blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = self._checked((await receive()).get("body", b""))
        except (ValueError, RecursionError) as problem:
            return await error_response(400, f"this is no call of the page: {problem}")(scope, receive, send)
        sent = [
            (name, str(len(body)).encode() if name.lower() == b"content-length" else value)
            for name, value in scope["headers"]
            if name.lower() not in (b"content-type", b"transfer-encoding")
        ]
        sent.append((b"content-type", b"application/json"))
        return await self._app({**scope, "headers": sent}, replay(body, receive), send)

    def _checked(self, body: bytes) -> bytes:
        """The call as Gradio may read it. Raises ValueError."""
        call = json.loads(body)
        if not isinstance(call, dict):
            raise ValueError("it has no fields")
        call = {name: call[name] for name in _FIELDS if name in call}
        number, data, session = call.get("fn_index"), call.get("data"), call.get("session_hash")
        function = self._blocks.fns.get(number) if _is_int(number) else None
        if function is None or not isinstance(data, list) or len(data) != len(function.inputs):
            raise ValueError("no such function, or other inputs")
        if not (isinstance(session, str) and session.isalnum() and session.isascii() and len(session) <= 64):
            raise ValueError("its session_hash isn't one")
        if not (call.get("trigger_id") is None or _is_int(call["trigger_id"])):
            raise ValueError("its trigger_id isn't one")
        _refuse_files([data, call.get("event_data")])
        return json.dumps(call, ensure_ascii=False).encode()  # raises ValueError for half a surrogate pair


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _refuse_files(value: Any) -> None:
    """Raise ValueError for a name of a file anywhere in what a browser sends, level by level."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, Mapping):
                if not _NEVER.isdisjoint(item):
                    raise ValueError("this page takes no files")
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        level, depth = inner, depth + 1
