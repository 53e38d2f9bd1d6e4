"""Why a request gets no answer, and how that looks: in OpenAI's form, at any path."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


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
