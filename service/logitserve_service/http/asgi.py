"""The inference endpoint as an ASGI application, for any ASGI server and for tests."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from starlette.types import Receive, Scope, Send

from logitserve_service.http.endpoint import Endpoint, Ticket
from logitserve_service.http.messages import RequestHead, Response, fields_of, pairs
from logitserve_service.http.routes import Target, match, without

Background = Callable[[], AbstractAsyncContextManager[None]]
"""Returns a context that is open while the process serves."""


class AsgiApplication:
    """ASGI (specification 3.0): the scopes `http` and `lifespan`."""

    def __init__(self, endpoint: Endpoint, background: Sequence[Background]) -> None:
        self._endpoint = endpoint
        self._background = background

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the background contexts until shutdown."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            for begin in self._background:
                await stack.enter_async_context(begin())
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Response] = loop.create_future()

        def reply(_: Ticket, response: Response) -> None:
            if not answered.done():
                answered.set_result(response)

        ticket = self._endpoint.open(_head(scope, self._endpoint.root_path), reply)
        timer = loop.call_later(ticket.deadline - time.perf_counter(), ticket.expire)
        receiving = asyncio.create_task(_receive(ticket, receive))
        try:
            either: set[asyncio.Future[Any]] = {receiving, answered}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done() and ticket.ended:
                return  # the client has disconnected
            response = await answered
        finally:
            timer.cancel()
            receiving.cancel()
            ticket.cancel()
        headers = pairs(response.head)
        if response.close:
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(start)
        await send({"type": "http.response.body", "body": response.body})


async def _receive(ticket: Ticket, receive: Receive) -> None:
    """Add the body to the ticket, then wait for the client to disconnect."""
    ticket.proceed()
    while not ticket.ended:
        message = await receive()
        if message["type"] == "http.disconnect":
            ticket.cancel()
            return
        ticket.add(message.get("body", b""))
        ticket.complete = not message.get("more_body", False)
        ticket.proceed()


def _head(scope: Scope, root_path: str) -> RequestHead:
    path = without(scope.get("root_path") or root_path, scope["path"])
    headers = list(scope["headers"])
    client = scope.get("client")
    raw_path = scope.get("raw_path") or scope["path"].encode()
    return RequestHead(
        scope["method"],
        Target(path, raw_path, scope["query_string"], match(path)),
        headers,
        fields_of(headers),
        client and client[0],
        scope.get("scheme", "http"),
        time.perf_counter(),
    )
