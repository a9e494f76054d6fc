"""Requests and responses as the application sees them, without sockets and ASGI."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from logitserve_service.http.routes import Target

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as HTTP/1.1 sends them."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def pairs(head: bytes) -> Headers:
    """The headers in such lines."""
    split = (line.partition(b": ") for line in head.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in split]


def fields_of(headers: Headers) -> dict[bytes, bytes]:
    """Headers by name, the last of equal names; without a `traceparent` that came twice.

    Two of those are invalid (W3C Trace Context, section 3.2).
    """
    fields = dict(headers)
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        if names.count(b"traceparent") > 1:
            del fields[b"traceparent"]
    return fields


@dataclass(slots=True)
class RequestHead:
    """Request line and header section of a request."""

    method: str
    target: Target
    headers: Headers
    fields: Mapping[bytes, bytes]
    """The same headers by name."""
    client: str | None
    """Address of the client."""
    scheme: str
    begun: float
    """When the first byte came, by `time.perf_counter`."""
    keep_alive: bool = True
    """Whether the client wants to keep the connection open."""

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.fields.get(b"expect", b"").lower() == b"100-continue"


@dataclass(slots=True)
class Response:
    """A whole response."""

    status: int
    head: bytes = b""
    """Header lines, names in lower case; not its length, which the endpoint adds."""
    body: bytes = b""
    close: bool = False
    """Whether the connection is closed after it."""
