"""A request that is asked through ASGI, and its answer: uvicorn's cycle, closed with care."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from logitserve_service.errors import ServiceError


class Cycle(RequestResponseCycle):
    """A request and its response; reading the request may fail on behalf of the connection."""

    failure: ServiceError | None = None

    def fail(self, error: ServiceError) -> None:
        """Let whoever reads the rest of the request get an error instead."""
        self.failure = error
        self.keep_alive = False
        self.message_event.set()

    async def receive(self) -> Any:
        """As in ASGI.

        Raises:
            ServiceError: what `fail` was told.
        """
        message = await super().receive()
        if self.failure is not None:
            raise self.failure
        return message


class Closing:
    """A transport as a cycle sees it: it closes as its connection wants to close."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = close
