"""Request and response types of the application, independent of sockets and ASGI."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from logitserve_service.http.routes import Target

Headers = list[tuple[bytes, bytes]]
"""Header fields; names in lower case."""


def lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode headers as HTTP/1.1 header lines."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def pairs(head: bytes) -> Headers:
    """Parse header lines."""
    split = (line.partition(b": ") for line in head.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in split]


def fields_of(headers: Headers) -> dict[bytes, bytes]:
    """Return headers by name, the last of equal names; a repeated `traceparent` is left out.

    Several are invalid (W3C Trace Context, section 3.2).
    """
    fields = dict(headers)
    if len(fields) != len(headers):
        names = [name for name, _ in headers]
        if names.count(b"traceparent") > 1:
            del fields[b"traceparent"]
    return fields


@dataclass(slots=True)
class RequestHead:
    """The request line and header section of a request."""

    method: str
    target: Target
    headers: Headers
    fields: Mapping[bytes, bytes]
    """The headers by name."""
    client: str | None
    """Address of the client."""
    scheme: str
    begun: float
    """Arrival of the first byte, by `time.perf_counter`."""
    keep_alive: bool = True
    """Whether the client wants to keep the connection open."""

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before sending the body."""
        return self.fields.get(b"expect", b"").lower() == b"100-continue"


@dataclass(slots=True)
class Response:
    """A complete response."""

    status: int
    head: bytes = b""
    """Header lines, names in lower case, without `content-length`, which the endpoint adds."""
    body: bytes = b""
    close: bool = False
    """Whether the connection is closed after the response."""
