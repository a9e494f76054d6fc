"""What every request passes first: its id, the limit of its body, and the short path.

FastAPI documents and routes every request; for a picture of a few hundred bytes, that costs more
than the answer itself. The commonest request, one encoded picture as the body of `POST /predict`,
is recognized here and answered by the same functions that its route calls. Everything else goes
on to the routes.
"""

import asyncio
import time
from collections.abc import Mapping
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from logitserve.inference.errors import InferenceError
from logitserve_service.api.payloads import departure, read_body
from logitserve_service.errors import ServiceError, UnauthenticatedError, UnreadableRequestError
from logitserve_service.execution.classify import Classifier
from logitserve_service.http import problems
from logitserve_service.http.auth import Guard
from logitserve_service.http.deadlines import TIMEOUT_HEADER, Deadlines, RequestTask
from logitserve_service.http.direct import SHORT_PATH, is_short
from logitserve_service.http.headers import NOSNIFF
from logitserve_service.http.limits import Bodies
from logitserve_service.http.routes.predict import answer
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.metrics import NO_MODEL, OTHER_ROUTE
from logitserve_service.telemetry.recorder import Head, Observation, Received
from logitserve_service.telemetry.request_ids import BEGUN, REQUEST_ID_HEADER, RequestIds


class Front:
    """The outermost layer of the service."""

    def __init__(
        self,
        routes: ASGIApp,
        *,
        lifespan: ASGIApp,
        catalog: Catalog,
        classifier: Classifier,
        observation: Observation,
        guard: Guard,
        bodies: Bodies,
        deadlines: Deadlines,
        request_ids: RequestIds,
    ) -> None:
        """Put it before the routes.

        Args:
            routes: who answers what is not on the short path.
            lifespan: who starts and stops what runs beside the requests.
            catalog: whose default model the short path asks.
            classifier: the use case.
            observation: told of every answer.
            guard: who lets requests pass.
            bodies: limits what requests bring.
            deadlines: limits how long they take.
            request_ids: names them.
        """
        self._routes = routes
        self._lifespan = lifespan
        self._catalog = catalog
        self._classifier = classifier
        self._observation = observation
        self._check_key = guard.check if guard.asks_keys else None
        self._bodies = bodies
        self._deadlines = deadlines
        self._request_ids = request_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        begun = scope.get(BEGUN) or time.perf_counter()
        headers = scope["headers"]
        identity = self._request_ids.of(headers)
        request_id = (REQUEST_ID_HEADER, identity[0])
        received = (scope, identity, begun)
        fields = dict(headers)
        try:
            if self._check_key is not None:
                self._check_key(scope["path"], fields)
            task = self._deadlines.begin(fields.get(TIMEOUT_HEADER), begun)
        except (UnauthenticatedError, UnreadableRequestError) as error:
            # What is left of an unwanted body is not worth reading.
            close = [(b"connection", b"close")] if _has_body(fields) else []
            head = await _refuse(error, scope, receive, send, request_id, *close)
            self._observation.answered(received, OTHER_ROUTE, NO_MODEL, head)
            return
        limited, release = self._bodies.limited(receive, fields.get(b"content-length"))
        try:
            if is_short(scope, fields):
                head = await self._answer(scope, limited, send, request_id, task)
                self._observation.answered(received, SHORT_PATH, self._default, head)
            else:
                await self._route(received, limited, send, request_id, task)
        finally:
            release()
            self._deadlines.end(task)

    async def _route(
        self,
        received: Received,
        receive: Receive,
        send: Send,
        request_id: tuple[bytes, bytes],
        task: RequestTask,
    ) -> None:
        """Let the routes answer."""
        scope = received[0]
        head: Head = (problems.CLIENT_GONE, [])

        async def identified(message: Message) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], request_id, NOSNIFF]
                head = message["status"], message["headers"]
            await send(message)

        try:
            await self._routes(scope, receive, identified)
        except asyncio.CancelledError:
            error = self._deadlines.error_of(task)
            if error is None:
                raise
            # An answer that has begun cannot become another; its connection ends.
            if head[0] == problems.CLIENT_GONE:
                head = await _refuse(error, scope, receive, send, request_id)
        except Exception:
            # Starlette raises what it has had answered and logged with 500, for servers to see.
            if head[0] != HTTPStatus.INTERNAL_SERVER_ERROR:
                head = (HTTPStatus.INTERNAL_SERVER_ERROR, [])
                raise
        finally:
            route = getattr(scope.get("route"), "path", OTHER_ROUTE)
            model = self._default if route == SHORT_PATH else _named(scope)
            self._observation.answered(received, route, model, head)

    @property
    def _default(self) -> str:
        return self._catalog.default or NO_MODEL

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: tuple[bytes, bytes],
        task: RequestTask,
    ) -> Head:
        """Answer on the short path; status and headers."""
        try:
            picture = await read_body(receive)
            model = self._catalog.find()
            body, headers = await answer(self._classifier, model, [picture], departure(receive))
        except (InferenceError, ServiceError) as error:
            return await _refuse(error, scope, receive, send, request_id)
        except asyncio.CancelledError:
            late = self._deadlines.error_of(task)
            if late is None:
                raise
            return await _refuse(late, scope, receive, send, request_id)
        headers += (request_id, NOSNIFF)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return 200, headers


async def _refuse(
    error: Exception, scope: Scope, receive: Receive, send: Send, *headers: tuple[bytes, bytes]
) -> Head:
    """Answer with a problem; its status and headers."""
    response = problems.response_to(error)
    response.raw_headers.extend((*headers, NOSNIFF))
    await response(scope, receive, send)
    return response.status_code, response.raw_headers


def _has_body(fields: Mapping[bytes, bytes]) -> bool:
    return b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"


def _named(scope: Scope) -> str:
    """The model that the path names, whether there is one or not."""
    name: str = scope.get("path_params", {}).get("name", NO_MODEL)
    return name
