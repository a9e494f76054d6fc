"""Map errors to responses by class: `application/problem+json` (RFC 9457)."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import orjson

from logitserve.inference import errors as inference
from logitserve_service import errors
from logitserve_service.config.settings import environment_name
from logitserve_service.http.messages import Response

logger = logging.getLogger("logitserve.problems")

PROBLEM_JSON = "application/problem+json"
MAX_DETAIL = 600
"""Maximum characters of a detail; gRPC sends details in metadata, which are limited to 8 KiB."""
CLIENT_GONE = 499
"""Recorded for a client that disconnected before its response, as in nginx; never sent."""

STATUS: Mapping[type[Exception], HTTPStatus] = {
    errors.UnauthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.UnreadableRequestError: HTTPStatus.BAD_REQUEST,
    errors.MethodNotAllowedError: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.UnsupportedMediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UnusableRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BodyTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.JsonTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyStringsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.JsonTooDeepError: HTTPStatus.BAD_REQUEST,
    errors.ImageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyImagesError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.MessageTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.TooManyChunksError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.HeadTooLargeError: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.RequestTimeoutError: HTTPStatus.REQUEST_TIMEOUT,
    errors.TooManyConnectionsError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.BusyError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DriftUnavailableError: HTTPStatus.NOT_FOUND,
    errors.TooFewImagesError: HTTPStatus.CONFLICT,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.LoadError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.WorkersBehindError: HTTPStatus.GATEWAY_TIMEOUT,
    inference.ModelNotFoundError: HTTPStatus.NOT_FOUND,
    inference.RolloutError: HTTPStatus.UNPROCESSABLE_ENTITY,
    inference.ImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    inference.TooManyPixelsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    inference.NonFiniteLogitsError: HTTPStatus.UNPROCESSABLE_ENTITY,
    inference.CoverageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    inference.ExplanationError: HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""Error class → status, also for subclasses. Any other class is a bug of the service: 500."""

SETTING: Mapping[type[Exception], str] = {
    errors.AdminKeyUnsetError: "admin_key",
    errors.WatchOffError: "watch",
    errors.StoreUnsetError: "store",
    errors.BodyTooLargeError: "max_body_bytes",
    errors.JsonTooLargeError: "max_json_values",
    errors.TooManyStringsError: "max_pictures",
    errors.TooManyImagesError: "max_pictures",
    errors.ImageTooLargeError: "max_decoded_bytes",
    errors.DecodersBusyError: "max_decoded_bytes",
    errors.HeadTimeoutError: "header_timeout_seconds",
    errors.BodyTimeoutError: "body_timeout_seconds",
    errors.TooManyConnectionsError: "max_connections",
    errors.QueueFullError: "max_queue",
    errors.TooManyBytesError: "max_buffered_bytes",
    errors.DeadlineError: "request_timeout_ms",
    inference.TooManyPixelsError: "max_pixels",
}
"""Error class → setting that the response names."""

CLOSING_STATUSES = frozenset({408, 413, 431})
CLOSING = (errors.TooManyBytesError, errors.TooManyConnectionsError)
"""The connection is closed after these errors, because reading the rest of the request is
costly."""


def fit_to_send(detail: str) -> str:
    """Truncate a detail, which may quote the client, and replace lone surrogates."""
    if len(detail) > MAX_DETAIL:
        detail = f"{detail[:MAX_DETAIL]} …"
    return detail.encode("utf-8", "replace").decode()


def explain(error: Exception) -> tuple[HTTPStatus, str]:
    """Return status and detail of an error; unexpected errors are logged, and not shown."""
    status = next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), None)
    if status is None:
        logger.error("unexpected error", exc_info=error)
        return HTTPStatus.INTERNAL_SERVER_ERROR, "an unexpected error; it is in the log"
    image = getattr(error, "image", None)
    where = "" if image is None else f"image {image}: "
    setting = SETTING.get(type(error))
    hint = "" if setting is None else f" (setting {environment_name(setting)})"
    return status, f"{where}{fit_to_send(str(error))}{hint}"


def of_error(error: Exception, form: str = "") -> Response:
    """Return the response to an error; TensorFlow Serving's form, `v1`, has 400 for 422."""
    status, detail = explain(error)
    close = status in CLOSING_STATUSES or isinstance(error, CLOSING)
    if form == "v1" and status is HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    headers: dict[str, str] = {}
    if isinstance(error, errors.BusyError):
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, errors.MethodNotAllowedError):
        headers["allow"] = error.allowed
    elif isinstance(error, errors.UnsupportedEncodingError):
        headers["accept-encoding"] = "gzip, deflate, identity"  # RFC 9110, section 15.5.16
    return problem(status, detail, headers, close=close)


def problem(
    status: int, detail: str, headers: Mapping[str, str] | None = None, *, close: bool = False
) -> Response:
    """Return a problem document (RFC 9457, section 3).

    `error` repeats `detail` for clients of the Open Inference Protocol and TensorFlow Serving.
    """
    title = HTTPStatus(status).phrase
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    every = {"content-type": PROBLEM_JSON, **_HEADERS.get(status, {}), **(headers or {})}
    head = "".join(f"{name.lower()}: {value}\r\n" for name, value in every.items())
    body = orjson.dumps({**document, "error": detail})
    return Response(status, head.encode("latin-1"), body, close=close)


def detail_of(response: Response) -> str:
    """Return the detail of a problem document; empty for another response."""
    try:
        return str(orjson.loads(response.body).get("detail", ""))
    except (orjson.JSONDecodeError, AttributeError):
        return ""


_HEADERS: Mapping[int, Mapping[str, str]] = {
    HTTPStatus.UNAUTHORIZED: {"www-authenticate": "Bearer"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": "1"},
}
