"""Run the FastAPI application for a request: documents, management and the page."""

import asyncio
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message

from logitserve_service.http.messages import RequestHead, Response, lines
from logitserve_service.http.probes import PROBES
from logitserve_service.telemetry.exchange import NO_MODEL, OTHER_ROUTE


class Answer(NamedTuple):
    """A response, with the documented route, the model and the version of the request."""

    route: str
    model: str
    version: str
    response: Response


class Documents:
    """Calls an ASGI application and collects its response in memory."""

    def __init__(self, app: ASGIApp, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path

    def start(self, head: RequestHead, body: bytes) -> "asyncio.Task[Answer]":
        """Run the application in a task."""
        return asyncio.get_running_loop().create_task(self._answer(head, body))

    async def _answer(self, head: RequestHead, body: bytes) -> Answer:
        scope = _scope(head, self._root_path)
        received: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        status = 0
        headers: list[tuple[bytes, bytes]] = []
        parts: list[bytes] = []

        async def receive() -> Message:
            if not received:
                await asyncio.Event().wait()  # the task is cancelled when the client disconnects
            return received.pop()

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.extend(message["headers"])
            else:
                parts.append(message.get("body", b""))

        try:
            await self._app(scope, receive, send)
        except Exception:
            # Starlette re-raises an unexpected error after its handler has responded.
            if not status:
                raise
        response_head = lines(header for header in headers if header[0] != b"content-length")
        route = getattr(scope.get("route"), "path", OTHER_ROUTE)
        model, version = scope.get("path_params", {}).get("name", NO_MODEL), ""
        if card := scope.get("state", {}).get(
            "card"
        ):  # version of the model that the endpoint found
            model, version = card.name, card.version
        return Answer(route, model, version, Response(status, response_head, b"".join(parts)))


def _is_get(head: RequestHead) -> bool:
    """Return whether to handle a request as GET: HEAD, or HAProxy's OPTIONS health check."""
    return head.method == "HEAD" or (head.method == "OPTIONS" and head.target.path in PROBES)


def _scope(head: RequestHead, root_path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET" if _is_get(head) else head.method,
        "path": root_path + head.target.path,
        "raw_path": head.target.raw_path,
        "query_string": head.target.query,
        "root_path": root_path,
        "scheme": head.scheme,
        "headers": head.headers,
        "client": None if head.client is None else (head.client, 0),
        "server": None,
    }
