"""The one place that turns errors into responses: `application/problem+json` (RFC 9457).

Errors carry facts; the status is chosen here, by class, along the method resolution order.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from logitserve.inference import errors as inference
from logitserve_service.config.settings import environment_name
from logitserve_service.errors import (
    AdminKeyUnsetError,
    BodyTimeoutError,
    BodyTooLargeError,
    BusyError,
    ClientGoneError,
    DeadlineError,
    ForbiddenError,
    HeadTimeoutError,
    HeadTooLargeError,
    JsonTooDeepError,
    JsonTooLargeError,
    LoadError,
    NotReadyError,
    QueueFullError,
    RequestTimeoutError,
    ServiceError,
    TooManyBytesError,
    TooManyConnectionsError,
    TooManyPicturesError,
    UnauthenticatedError,
    UnreadableRequestError,
    UnsupportedMediaTypeError,
    UnusableRequestError,
    WorkersBehindError,
)

logger = logging.getLogger("logitserve.problems")

PROBLEM_JSON = "application/problem+json"

MAX_DETAIL = 600
"""Characters; gRPC sends details in metadata, which may have 8 KiB."""

CLIENT_GONE = 499
"""Nobody reads it, but it is counted and logged: nginx's number for a client that closed its
connection before it was answered."""

STATUS: Mapping[type[Exception], HTTPStatus] = {
    UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    UnreadableRequestError: HTTPStatus.BAD_REQUEST,
    ClientGoneError: HTTPStatus.BAD_REQUEST,  # nobody reads it
    UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UnusableRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    JsonTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    JsonTooDeepError: HTTPStatus.BAD_REQUEST,
    TooManyPicturesError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HeadTooLargeError: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    RequestTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    TooManyConnectionsError: HTTPStatus.SERVICE_UNAVAILABLE,
    BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    LoadError: HTTPStatus.UNPROCESSABLE_ENTITY,
    WorkersBehindError: HTTPStatus.GATEWAY_TIMEOUT,
    inference.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    inference.ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    inference.TooManyPixelsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    inference.NonFiniteLogitsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    inference.CoverageError: HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""Error class → status. What is not here, nor a subclass, is a fault of ours: 500."""

SETTING: Mapping[type[Exception], str] = {
    AdminKeyUnsetError: "admin_key",
    BodyTooLargeError: "max_body_bytes",
    JsonTooLargeError: "max_json_values",
    JsonTooDeepError: "max_json_depth",
    TooManyPicturesError: "max_pictures",
    HeadTimeoutError: "header_timeout_seconds",
    BodyTimeoutError: "body_timeout_seconds",
    TooManyConnectionsError: "max_connections",
    QueueFullError: "max_queue",
    TooManyBytesError: "max_buffered_bytes",
    DeadlineError: "request_timeout_ms",
    inference.TooManyPixelsError: "max_pixels",
}
"""The setting that an error comes from, so that the answer can name it."""

HEADERS: Mapping[HTTPStatus, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "Bearer"},
    # What is left of an unwanted body is not worth reading.
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {"Connection": "close"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "1"},
}


def problem(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """A problem document (RFC 9457, section 3).

    Its extension member `error` says what `detail` says, because clients of the Open Inference
    Protocol and of TensorFlow Serving look for it there.
    """
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": detail,
        **members,
    }
    every_header = {**HEADERS.get(HTTPStatus(status), {}), **(headers or {})}
    return Response(orjson.dumps(body), status, every_header, PROBLEM_JSON)


def _fit_to_send(detail: str) -> str:
    """A detail may quote what the client sent: it is cut, and what no text may hold is replaced."""
    if len(detail) > MAX_DETAIL:
        detail = f"{detail[:MAX_DETAIL]} …"
    return detail.encode("utf-8", "replace").decode()


def status_of(error: Exception) -> HTTPStatus:
    """The status of the nearest class that `STATUS` names."""
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def explained(error: Exception) -> tuple[HTTPStatus, str]:
    """Status and detail of an error; what was not raised on purpose is logged and not told."""
    status = status_of(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("unexpected error", exc_info=error)
        return status, "an unexpected error; it is in the log"
    setting = SETTING.get(type(error))
    picture = getattr(error, "picture", None)
    where = "" if picture is None else f"picture {picture}: "
    hint = "" if setting is None else f" (setting {environment_name(setting)})"
    return status, f"{where}{_fit_to_send(str(error))}{hint}"


def response_to(error: Exception) -> Response:
    """The problem document for an error."""
    if isinstance(error, ClientGoneError):
        return Response(status_code=CLIENT_GONE)
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, TooManyBytesError):
        headers["Connection"] = "close"  # as for a body that is too large
    return problem(*explained(error), headers=headers)


async def _answer(_: Request, error: Exception) -> Response:
    return response_to(error)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows the type
    return problem(error.status_code, _fit_to_send(str(error.detail)), headers=error.headers)


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows the type
    first = error.errors()[0]
    where = " ".join(map(str, first["loc"]))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, _fit_to_send(f"{where}: {first['msg']}"))


def install(app: FastAPI) -> None:
    """Let the app answer every error with a problem document."""
    app.add_exception_handler(ServiceError, _answer)
    app.add_exception_handler(inference.InferenceError, _answer)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _answer)
