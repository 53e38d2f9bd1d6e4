"""Why a request gets no answer, and how that looks: in OpenAI's form, at any path."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from longjing.errors import UserError
from longjing.serving.messages import FieldError
from longjing.validation import reason


class ModelNotFound(Exception):
    """No model of this name is served."""


class QueueFull(Exception):
    """No more requests can wait. `retry_after`: seconds until there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in about {retry_after} s")
        self.retry_after = retry_after


class ServiceClosed(Exception):
    """No more requests are taken: the server is about to leave, or its engine broke."""


class ClientDisconnected(Exception):
    """The client has closed the connection."""


def error_response(
    status: int, message: str, *, parameter: str | None = None, code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """A refusal in OpenAI's form."""
    return JSONResponse(error_body(status, message, parameter, code), status, headers)


def error_body(status: int, message: str, parameter: str | None = None, code: str | None = None) -> dict[str, Any]:
    """What a refusal says, in OpenAI's form."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def too_slow(seconds: float) -> str:
    """What is said of a request that is broken off."""
    return f"it took longer than the {seconds:g} s that this server allows; ask for fewer tokens"


def add_error_handlers(app: FastAPI, seconds: float) -> None:
    """Let `app` answer every exception. `seconds`: the longest that a request may take."""

    async def answer(request: Request, problem: Exception) -> JSONResponse:
        match problem:
            case UserError():  # InvalidRequest knows the parameter that is to blame
                parameter, code = getattr(problem, "parameter", None), getattr(problem, "code", None)
                return error_response(400, str(problem), parameter=parameter, code=code)
            case RequestValidationError():
                text, parameter = explain(problem.errors())
                return error_response(400, text, parameter=parameter)
            case RecursionError():
                return error_response(400, "the request is nested too deeply")
            case ModelNotFound():
                return error_response(404, str(problem), parameter="model", code="model_not_found")
            case QueueFull():
                headers = {"Retry-After": str(problem.retry_after)}
                return error_response(429, str(problem), code="queue_full", headers=headers)
            case ClientDisconnected():
                return error_response(499, "the client left")  # read by nobody but the log
            case ServiceClosed():
                return error_response(503, str(problem), headers={"Retry-After": "5"})
            case TimeoutError():
                return error_response(504, too_slow(seconds))
            case HTTPException(status_code=status):
                text = str(problem.detail)
                if status in (404, 405):
                    text = f"{request.method} {request.url.path[:200]}: {text}; /openapi.json tells what there is"
                return error_response(status, text, headers=problem.headers)
        return error_response(500, "the server has a defect; see its log")

    for kind in (
        UserError, RequestValidationError, RecursionError, ModelNotFound, QueueFull, ClientDisconnected,
        ServiceClosed, TimeoutError, HTTPException, Exception,
    ):  # fmt: skip
        app.add_exception_handler(kind, answer)


def explain(errors: Any) -> tuple[str, str | None]:
    """What pydantic found wrong with a body, beginning with the field's path; and the parameter that is to blame."""
    first = errors[0]
    # Of several forms that a field may have, the one that is nearest.
    first = max((other for other in errors if other["loc"][:2] == first["loc"][:2]), key=lambda one: len(one["loc"]))
    path = [str(part)[:64] for part in first["loc"][1:]]
    path = [part for part in path if part.isidentifier() or part.isdigit()] or path[:1]
    text = reason(first)
    cause = first.get("ctx", {}).get("error")
    if first["type"] == "json_invalid":
        return f"the body is no JSON: {cause or text}", None
    if first["type"] == "extra_forbidden":
        text = "unknown, or not supported here"
    if isinstance(cause, FieldError):
        path, text = [*path, cause.field], cause.text
    elif first["type"] == "value_error" and not path:  # our own, which begins with the field's path
        return text, text.partition(":")[0].partition(".")[0]
    return f"{'.'.join(path) or 'the body'}: {text}", path[0] if path else None
