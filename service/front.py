"""What every request passes first: its id, the limit of its body, and the short path.

FastAPI documents and routes every request; for a picture of a few hundred bytes, that costs more
than the answer itself. The commonest request, one encoded picture as the body of `POST /predict`,
is recognized here and answered by the same functions that its route calls. Everything else goes
on to the routes.
"""

import time
from collections.abc import Iterable
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.errors import InferenceError
from service import limits, problems
from service.catalog import Catalog
from service.classify import Classifier
from service.errors import ServiceError, UnauthenticatedError
from service.metrics import NO_MODEL, OTHER_ROUTE, Metrics
from service.payloads import IMAGE_TYPES, departure, read_body
from service.routes.predict import answer
from service.security import Guard
from service.telemetry import REQUEST_ID_HEADER, RequestIds

SHORT_PATH = "/predict"

_IMAGE_TYPES = frozenset(media_type.encode() for media_type in IMAGE_TYPES)


class Front:
    """The outermost layer of the service."""

    def __init__(
        self,
        routes: ASGIApp,
        *,
        lifespan: ASGIApp,
        catalog: Catalog,
        classifier: Classifier,
        metrics: Metrics,
        guard: Guard,
        max_body_bytes: int,
    ) -> None:
        """Put it before the routes.

        Args:
            routes: who answers what is not on the short path.
            lifespan: who starts and stops what runs beside the requests.
            catalog: whose default model the short path asks.
            classifier: the use case.
            metrics: where every answer is counted.
            guard: who lets requests pass.
            max_body_bytes: bytes that the body of one request may have.
        """
        self._routes = routes
        self._lifespan = lifespan
        self._catalog = catalog
        self._classifier = classifier
        self._metrics = metrics
        self._check_key = guard.check if guard.asks_keys else None
        self._max_body_bytes = max_body_bytes
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = scope["headers"]
        request_id = (REQUEST_ID_HEADER, self._request_ids.of(headers))
        if self._check_key is not None:
            try:
                self._check_key(scope["path"], headers)
            except UnauthenticatedError as error:
                # What is left of an unwanted body is not worth reading.
                close = [(b"connection", b"close")] if _has_body(headers) else []
                status = await _refuse(error, scope, receive, send, request_id, *close)
                seconds = time.perf_counter() - begun
                self._metrics.answered(OTHER_ROUTE, NO_MODEL, status, seconds)
                return
        limited = limits.limited(receive, headers, max_bytes=self._max_body_bytes)
        if _is_short(scope):
            status = await self._answer(scope, limited, send, request_id)
            seconds = time.perf_counter() - begun
            self._metrics.answered(SHORT_PATH, self._default, status, seconds)
            return
        status = problems.CLIENT_GONE

        async def identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], request_id]
            await send(message)

        try:
            await self._routes(scope, limited, identified)
        except Exception:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise
        finally:
            route = getattr(scope.get("route"), "path", OTHER_ROUTE)
            model = self._default if route == SHORT_PATH else _named(scope)
            self._metrics.answered(route, model, status, time.perf_counter() - begun)

    @property
    def _default(self) -> str:
        return self._catalog.default or NO_MODEL

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, request_id: tuple[bytes, bytes]
    ) -> int:
        """Answer on the short path; the status."""
        try:
            picture = await read_body(receive)
            model = self._catalog.find()
            body, headers = await answer(self._classifier, model, [picture], departure(receive))
        except (InferenceError, ServiceError) as error:
            return await _refuse(error, scope, receive, send, request_id)
        headers.append(request_id)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return 200


async def _refuse(
    error: Exception, scope: Scope, receive: Receive, send: Send, *headers: tuple[bytes, bytes]
) -> int:
    """Answer with a problem; its status."""
    response = problems.response_to(error)
    response.raw_headers.extend(headers)
    await response(scope, receive, send)
    return response.status_code


def _is_short(scope: Scope) -> bool:
    if scope["path"] != SHORT_PATH or scope["method"] != "POST" or scope["query_string"]:
        return False
    for name, value in scope["headers"]:
        if name == b"content-type":
            return value in _IMAGE_TYPES
    return False


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    )


def _named(scope: Scope) -> str:
    """The model that the path names, whether there is one or not."""
    name: str = scope.get("path_params", {}).get("name", NO_MODEL)
    return name
