"""One client connection: HTTP/1.1 parsed by httptools, with limits on each client.

Each request becomes a ticket of the endpoint. Pipelined requests are answered one after the other,
in their order.
"""

import asyncio
import math
import time
from collections import deque
from typing import cast

import httptools
from uvicorn.protocols.utils import get_remote_addr, is_ssl

from logitserve_service.errors import (
    BodyTimeoutError,
    HeadTimeoutError,
    HeadTooLargeError,
    TooManyConnectionsError,
    UnreadableRequestError,
)
from logitserve_service.http.endpoint import Endpoint, Ticket
from logitserve_service.http.messages import RequestHead, Response, fields_of, lines
from logitserve_service.http.probes import UNLIMITED
from logitserve_service.http.routes import Target, parse
from logitserve_service.server.connections import Connections, Phase

MAX_HEAD_BYTES = 65_536
"""Maximum size of request line and header section together."""
MAX_FIELDS = 128
"""Maximum header fields of one request."""

PIECE, BODY_PIECE = 4096, 16_384
"""Maximum bytes parsed at a time, outside and inside a body: the kernel passes up to 250 kB at
once, which can be 8000 requests."""
MAX_PIPELINED = 16
"""Maximum parsed requests that wait; beyond it, parsing stops."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_NO_TARGET = Target("", b"", b"", None)
_HTTP2 = "Pause on PRI/Upgrade"
"""llhttp's error for the first line of HTTP/2 with prior knowledge (RFC 9113, 3.3)."""
_NO_HTTP2 = (
    "HTTP/2 is not supported; send HTTP/1.1, or use a proxy that translates, such as nginx, "
    "HAProxy or Envoy"
)
_NO_CODING = (
    "the transfer coding %r is not supported in HTTP/1.1; send chunked, and a compressed body with "
    "Content-Encoding"
)
_NO_HOST = "an HTTP/1.1 request must have a Host header field (RFC 9112, 3.2); this one has none"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """A client connection."""

    def __init__(self, connections: Connections, endpoint: Endpoint) -> None:
        self._connections = connections
        self._endpoint = endpoint
        self._parser = httptools.HttpRequestParser(self)
        self._tickets: deque[Ticket] = deque()
        """Tickets of unanswered requests, in their order."""
        self._receiving: Ticket | None = None
        """Ticket whose body is being received."""
        self._in_head = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        """Size of the chunks received so far that contain only a part of the head."""
        self._begun = 0.0
        self._at_end = False  # the client has closed its sending side
        self._offer: bytes | None = None
        """Framing header lines of a request with `Upgrade`, until its body is parsed."""
        self._resuming = False
        """Whether the parser is fed that framing a second time."""
        self._unparsed = b""
        """Data received after `MAX_PIPELINED` requests."""
        self._closing = False  # further data are ignored
        self._broken = False  # further data cannot be parsed
        self._over_limit = False
        self._read_paused = self._write_paused = False
        self.requests = 0
        self._phase: tuple[Phase, int] | None = None
        self._since = math.inf  # when the sweep first saw the phase

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection; one over the limit can only send monitoring requests."""
        self.transport = cast("asyncio.Transport", transport)
        client = get_remote_addr(self.transport)
        # A dual-stack listener shows IPv4 addresses as mapped IPv6 (RFC 4291, 2.5.5.2).
        self._client = None if client is None else client[0].removeprefix("::ffff:")
        self._scheme = "https" if is_ssl(self.transport) else "http"
        self._over_limit = self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the unanswered requests."""
        del exc
        self._connections.remove(self)
        self._drop()

    def eof_received(self) -> bool:
        """Answer the complete requests, then close; a partial request is cancelled."""
        self._at_end = True
        self._in_head = False
        if self._receiving is not None:
            self._receiving.cancel()
            self._tickets.remove(self._receiving)
            self._receiving = None
        return bool(self._tickets)

    def pause_writing(self) -> None:
        """Pause reading, because the client reads its responses too slowly."""
        self._write_paused = True
        self._pause_reading()

    def resume_writing(self) -> None:
        """Resume, because the client has read enough of its responses."""
        self._write_paused = False
        self._advance()

    def data_received(self, data: bytes) -> None:
        """Parse in pieces, while the number of waiting requests is below the limit."""
        if len(data) <= PIECE and not self._unparsed:
            self._parse(data)
            return
        rest = memoryview(self._unparsed + data if self._unparsed else data)
        while rest and not (self._closing or self._broken):
            if len(self._tickets) > MAX_PIPELINED:
                self._unparsed = bytes(rest)
                return
            size = PIECE if self._receiving is None else BODY_PIECE
            self._parse(bytes(rest[:size]))
            rest = rest[size:]
        self._unparsed = b""

    def _parse(self, data: bytes) -> None:
        """Parse data, or respond with the error."""
        begun, requests, size = self._begun_request, self.requests, len(data)
        self._got_body = False
        self._is_long = self._in_head  # a header section that arrives in one piece is not too long
        while data and not (self._closing or self._broken):
            try:
                self._parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # An upgrade offer can be ignored (RFC 9110, 7.8): continue with HTTP/1.1.
                data = data[upgrade.args[0] :]
                self._resume()
            except httptools.HttpParserCallbackError as error:
                cause = error.__context__
                self._refuse(cause if isinstance(cause, Exception) else error)
            except httptools.HttpParserError as error:
                reason = str(error)
                reason = _NO_HTTP2 if reason == _HTTP2 else reason
                self._refuse(UnreadableRequestError(f"this is not HTTP/1.1: {reason}"))
        if begun and self._begun_request and not self._got_body and requests == self.requests:
            # All data belong to a header or trailer section that is not complete.
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HeadTooLargeError(MAX_HEAD_BYTES, MAX_FIELDS))

    def on_message_begin(self) -> None:
        """Start a request."""
        if self._resuming:
            return
        self._begun = time.perf_counter()
        self._in_head = True
        self._head_bytes = 0
        self._url = b""
        self._headers = []
        self.requests += 1

    def on_url(self, url: bytes) -> None:
        """Add a received part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a received header field."""
        if self._in_head:  # trailer fields are ignored
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Open a ticket for the complete head."""
        if self._closing or self._resuming:
            self._resuming = False
            return
        head = self._head()
        self._in_head = False
        if self._over_limit and head.target.path not in UNLIMITED:
            error = TooManyConnectionsError(self._connections.limits.connections)
            ticket = self._endpoint.refuse(head, error, self._respond)
        else:
            ticket = self._endpoint.open(head, self._respond)
        self._receiving = ticket
        self._tickets.append(ticket)
        if len(self._tickets) > 1:  # pipelined
            self._pause_reading()
        elif ticket.error is not None or b"expect" in head.fields:
            # A request without a body completes at once, and can keep its connection.
            if not _FRAMING.isdisjoint(head.fields):
                self._advance()
        else:
            ticket.first = True

    def on_body(self, body: bytes) -> None:
        """Add a received part of a body."""
        self._got_body = True
        self._head_bytes = 0
        ticket = self._receiving
        if ticket is not None:
            ticket.add(body)
            if ticket.error is not None and ticket is self._tickets[0]:
                ticket.proceed()

    def on_message_complete(self) -> None:
        """Complete the current request."""
        if self._offer is not None:
            return
        ticket, self._receiving = self._receiving, None
        if ticket is not None:
            ticket.complete = True
            if ticket is self._tickets[0] and not self._write_paused:
                ticket.proceed()

    def _head(self) -> RequestHead:
        parser, headers = self._parser, self._headers
        fields = fields_of(headers)
        if len(headers) > MAX_FIELDS or self._is_long:
            self._check_size()
        if b"upgrade" in fields and parser.should_upgrade():
            framing = [header for header in headers if header[0] in _FRAMING]
            self._offer = lines(framing) if framing else None
        coding = fields.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise UnreadableRequestError(_NO_CODING % coding.decode("latin-1"))
        if b"host" not in fields and parser.get_http_version() == "1.1":
            raise UnreadableRequestError(_NO_HOST)
        client, scheme = self._client, self._scheme
        if b"x-forwarded-for" in fields or b"x-forwarded-proto" in fields:
            client, scheme = self._connections.proxies.caller(client, scheme, fields)
        keep_alive = parser.should_keep_alive()
        if b"connection" in fields and parser.get_http_version() == "1.0":
            keep_alive = False
        method = parser.get_method()
        return RequestHead(
            "POST" if method == b"POST" else method.decode("ascii"),
            parse(self._url, self._endpoint.root_path),
            headers,
            fields,
            client,
            scheme,
            self._begun,
            keep_alive,
        )

    def _resume(self) -> None:
        """Parse the body of a request with `Upgrade`, which the parser has skipped."""
        if self._offer is not None:
            framing, self._offer, self._resuming = self._offer, None, True
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)

    def _check_size(self) -> None:
        headers = self._headers
        size = len(self._url) + sum(len(name) + len(value) for name, value in headers)
        if len(headers) > MAX_FIELDS or size > MAX_HEAD_BYTES:
            raise HeadTooLargeError(MAX_HEAD_BYTES, MAX_FIELDS)

    def _respond(self, ticket: Ticket, response: Response) -> None:
        """Write the response of the first ticket, and continue with the next."""
        self._tickets.popleft()
        close = (
            response.close
            or not ticket.complete
            or not ticket.head.keep_alive
            or self._over_limit
            or (self._at_end and not self._tickets)
            or self._connections.drain.begun
        )
        self.transport.write(
            b"%b%b%b%b"
            % (
                self._connections.response_head(response.status),
                response.head,
                b"connection: close\r\n\r\n" if close else b"\r\n",
                b"" if ticket.head.method == "HEAD" else response.body,
            )
        )
        if close:
            self._close()
        elif self._tickets or self._read_paused:
            # Not called directly: many responses in a row must not recurse.
            asyncio.get_running_loop().call_soon(self._advance)

    def _advance(self) -> None:
        """Continue with the first request, and with reading if it is the only one."""
        if self._closing or self._write_paused:
            return
        if self._read_paused and len(self._tickets) < 2:
            unparsed, self._unparsed = self._unparsed, b""
            if unparsed:
                self.data_received(unparsed)
            if not self._unparsed and len(self._tickets) < 2 and self._read_paused:
                self._read_paused = False
                self.transport.resume_reading()
        if self._tickets:
            ticket = self._tickets[0]
            ticket.proceed()
            waits = ticket.head.expects_continue and not (ticket.complete or ticket.ended)
            if waits and self._parser.get_http_version() != "1.0":  # RFC 9110, section 10.1.1
                self.transport.write(_CONTINUE)

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    @property
    def _begun_request(self) -> bool:
        """Whether a request is partially received."""
        return self._in_head or self._receiving is not None

    def _refuse(self, error: Exception) -> None:
        """Fail the partially received request after the earlier ones are answered, and close."""
        if self._closing:
            return
        ticket = self._receiving
        if ticket is None:
            if self._tickets and not self._tickets[-1].head.keep_alive:
                self._broken = True  # data after the last request of a connection are ignored
                return
            # Of an incomplete head, only the time of its first byte is known.
            head = RequestHead(
                "", _NO_TARGET, [], {}, self._client, self._scheme, self._begun, keep_alive=False
            )
            ticket = self._receiving = self._endpoint.refuse(head, error, self._respond)
            self._tickets.append(ticket)
        self._in_head = False
        self._broken = True
        ticket.fail(error)
        if self._tickets and ticket is self._tickets[0]:
            ticket.proceed()

    def _close(self) -> None:
        """Close the connection; a client that is still sending can read the response first."""
        unread = self._receiving is not None or self._in_head
        self._drop()
        if not unread or self.transport.is_closing():
            self.transport.close()
            return
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _drop(self) -> None:
        """Cancel all unanswered requests, and ignore further data."""
        self._closing = True
        self._receiving = None
        self._in_head = False
        for ticket in self._tickets:
            ticket.cancel()
        self._tickets.clear()

    @property
    def in_flight(self) -> bool:
        """Whether a request is unanswered, or a response is being sent."""
        return self._current not in (Phase.IDLE, Phase.DISCARD)

    @property
    def _current(self) -> Phase:
        if self.transport.get_write_buffer_size():
            return Phase.WRITE
        if self._closing:
            return Phase.DISCARD
        if not self._tickets:
            return Phase.HEAD if self._in_head else Phase.IDLE
        if self._at_end:
            return Phase.LEAVING
        # While reading is paused, the client waits for the service.
        first = self._tickets[0]
        return Phase.RESPONSE if first.complete or self._read_paused else Phase.BODY

    def check(self, now: float) -> bool:
        """Enforce the timeouts; return whether a request was cut off.

        Args:
            now: the time by `time.perf_counter`.
        """
        for ticket in list(self._tickets):
            if now >= ticket.deadline:
                ticket.expire()
        phase = self._current, self.requests
        if phase != self._phase:
            self._phase, self._since = phase, now
            return False
        seconds = self._connections.seconds_in(phase[0], over_limit=self._over_limit)
        if now - self._since < seconds:
            return False
        limits = self._connections.limits
        match phase[0]:
            case Phase.HEAD:
                self._refuse(HeadTimeoutError(limits.header_seconds))
            case Phase.BODY:
                self._refuse(BodyTimeoutError(limits.body_seconds))
            case Phase.WRITE:
                self.transport.abort()
            case _:
                self.transport.close()
                return False
        return True
