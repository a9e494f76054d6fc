"""A request that is asked through ASGI, and its answer: uvicorn's cycle, closed with care."""

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from service.errors import ServiceError

if TYPE_CHECKING:
    from service.connection import Connection


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
    """A transport as a cycle sees it: it closes as the connection wants to close."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        """Close when the client had a chance to read the answer."""
        self._connection.close_when_read()
