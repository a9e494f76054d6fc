"""One connection of a client: uvicorn's protocol, with limits on what a client may take.

uvicorn waits for ever for a client that trickles, takes heads of any size, and closes at once when
it is told to stop. What is overridden here is covered by tests/e2e/test_connections.py and
test_stopping.py; the version of uvicorn is pinned to the one that they were written against.
"""

import asyncio
import enum
import math
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from logitserve_service.errors import (
    BodyTimeoutError,
    HeadTimeoutError,
    HeadTooLargeError,
    ServiceError,
    TooManyConnectionsError,
    UnreadableRequestError,
)
from logitserve_service.http import problems
from logitserve_service.http.direct import Shortcut
from logitserve_service.http.routes.probes import PROBES
from logitserve_service.server.cycle import Closing, Cycle
from logitserve_service.telemetry.request_ids import BEGUN

if TYPE_CHECKING:
    from logitserve_service.server.connections import Connections

MAX_HEAD_BYTES = 65536
"""Request line and header fields together."""
MAX_FIELDS = 128
"""Header fields of one request."""

BEYOND = 100
"""Connections beyond the limit that are still heard, so that probes are answered."""
HURRIED_SECONDS = 2
"""How long a connection may do nothing while there are too many."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


class Phase(enum.Enum):
    """What a connection is waiting for."""

    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWER = enum.auto()
    READER = enum.auto()
    """The client has not taken what was sent."""
    NEXT = enum.auto()
    """Another request, or the first."""
    LEFTOVER = enum.auto()
    """The rest of a request that was answered and is not wanted any more."""


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    server_state: "Connections"
    cycle: Cycle | Shortcut  # type: ignore[assignment] # all that uvicorn asks of it

    _receiving = False  # a request has begun and is not complete
    _discarding = False  # what still comes is of no interest
    _beyond = False  # it was made when there were already as many as may be
    _head_bytes = 0
    _chunk_bytes = 0
    _phase: Phase | None = None
    _since = math.inf  # when the sweep first saw it in this phase, with this request
    _seen: object = None  # that request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; of one too many, only probes are answered."""
        super().connection_made(transport)
        excess = len(self.connections) - self.server_state.limits.connections
        self._beyond = excess > 0
        if excess > BEYOND:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a request on the direct way know."""
        if isinstance(self.cycle, Shortcut):
            self.cycle.gone()
            self.cycle = None  # type: ignore[assignment] # as uvicorn has it before a request
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, or say why it cannot be."""
        if self._take_known(data):
            return
        begins, before, whole = not self._receiving, self.cycle, data
        self._chunk_bytes = len(data)
        unfinished = self.scope if self._in_head else None
        while data and not self._discarding:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                # We speak HTTP/1.1 alone, and may go on with it (RFC 9110, section 7.8).
                data = data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                cause = error.__context__
                self._refuse(
                    cause
                    if isinstance(cause, ServiceError)
                    else UnreadableRequestError(f"this is not HTTP/1.1: {error}")
                )
        if unfinished is not None and unfinished is self.scope and self._in_head:
            # All of it was one more part of this head, which is still not complete.
            self._head_bytes += self._chunk_bytes
            if self._head_bytes > MAX_HEAD_BYTES and not self._discarding:
                self._refuse(HeadTooLargeError(MAX_HEAD_BYTES, MAX_FIELDS))
        if begins and not self._receiving and self.cycle is not before:
            self._remember(whole)

    def _remember(self, data: bytes) -> None:
        """Keep the head that these bytes begin with, if its request went the direct way."""
        if isinstance(self.cycle, Shortcut) and self.cycle.keep_alive:
            self.server_state.known_heads.remember(data, self.cycle.scope)

    def _take_known(self, data: bytes) -> bool:
        """Do what the parser would do, if this is one request whose head is known."""
        direct = self.server_state.direct
        if direct is None or self._receiving or not self._goes_directly:
            return False
        found = self.server_state.known_heads.find(data)
        if found is None:
            return False
        known, body = found
        if not direct.admits(known.fields):
            return False
        self.on_message_begin()
        scope: Any = self.scope
        scope.update(known.said)
        self.headers += known.headers
        keep_alive = not self.server_state.drain.begun
        self.cycle = Shortcut(direct, self, scope, keep_alive=keep_alive)
        self.on_body(body)
        self.on_message_complete()
        return True

    @property
    def _is_free(self) -> bool:
        """Whether nothing stands before the next request."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _goes_directly(self) -> bool:
        """Whether the next request may go the direct way, if it is one for it."""
        return (
            self._is_free
            and not self._beyond
            and not self._discarding
            and not self.flow.write_paused
        )

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope[BEGUN] = time.perf_counter()  # type: ignore[literal-required]
        self._receiving = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Hand the request to the app."""
        parser = self.parser
        self._check_head()
        version = parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope: Any = self.scope
        scope["method"] = parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        closing = self._beyond or self.server_state.drain.begun
        keep_alive = version != "1.0" and parser.should_keep_alive() and not closing
        direct = self.server_state.direct
        if direct and self._goes_directly and version == "1.1" and direct.takes(scope):
            self.cycle = Shortcut(direct, self, scope, keep_alive=keep_alive)
            return
        is_free = self._is_free
        self.cycle = cycle = self._cycle_of(scope, keep_alive=keep_alive)
        app = self._busy if self._beyond and scope["path"] not in PROBES else self.app
        if is_free:
            self._start_asgi_task(cycle, app)  # type: ignore[arg-type]
        else:  # pipelined
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))  # type: ignore[arg-type]

    def ask(self, shortcut: Shortcut) -> Cycle:
        """Hand a request to the app that has left the direct way."""
        cycle = self._cycle_of(shortcut.scope, keep_alive=shortcut.keep_alive)
        cycle.body += shortcut.body
        cycle.more_body = shortcut.more_body
        if cycle.body or not cycle.more_body:
            cycle.message_event.set()
        if self.cycle is shortcut:
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)
        return cycle

    def _cycle_of(self, scope: Any, *, keep_alive: bool) -> Cycle:
        return Cycle(
            scope=scope,
            transport=Closing(self.transport, self.close_when_read),  # type: ignore[arg-type]
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def on_body(self, body: bytes) -> None:
        """A part of a body has come."""
        if isinstance(self.cycle, Shortcut):
            self.cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._receiving = False
        if isinstance(self.cycle, Shortcut):
            self.cycle.submit()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request. How long it may take to come, the sweep watches."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            # Reading stays paused until all are answered: a client cannot fill the memory.
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._discarding:
            self.flow.resume_reading()

    @property
    def has_asked(self) -> bool:
        """Whether a request has begun on it."""
        return self._receiving or self.cycle is not None

    @property
    def in_flight(self) -> bool:
        """Whether a request has begun that is not answered yet, or an answer is on its way."""
        return self._current not in (Phase.NEXT, Phase.LEFTOVER)

    def close_after_answer(self) -> None:
        """Say with the answer that the connection closes, where it has not begun yet."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def close_when_read(self) -> None:
        """Close, but not before the client had a chance to read the answer."""
        if not self._receiving or self.transport.is_closing():
            self.transport.close()
            return
        self._discarding = True
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def check(self, now: float) -> bool:
        """Cut the client off if it is in a phase for longer than it may.

        Args:
            now: seconds of a clock that only goes forward.

        Returns:
            whether it was cut off, with anything in flight.
        """
        phase = self._current
        if phase is not self._phase or self._seen is not self.scope:
            self._phase, self._seen, self._since = phase, self.scope, now
            return False
        if now - self._since < self._patience(phase):
            return False
        limits = self.server_state.limits
        if phase is Phase.HEAD:
            self._refuse(HeadTimeoutError(limits.header_seconds))
        elif phase is Phase.BODY:
            self._refuse(BodyTimeoutError(limits.body_seconds))
        elif phase is Phase.READER:
            self.transport.abort()
        else:
            self.transport.close()
        return phase in (Phase.HEAD, Phase.BODY, Phase.READER)

    def _patience(self, phase: Phase) -> float:
        patience = self.server_state.patience[phase]
        if self._beyond or (phase is Phase.NEXT and self.server_state.crowded):
            return min(patience, HURRIED_SECONDS)
        return patience

    @property
    def _in_head(self) -> bool:
        """Whether a request has begun whose head is not complete."""
        return self._receiving and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def _current(self) -> Phase:
        if self.transport.get_write_buffer_size():
            return Phase.READER
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._discarding:
            return Phase.ANSWER if answering else Phase.LEFTOVER
        # While reading is paused, it is us for whom the client waits.
        if self._receiving and not self.flow.read_paused:
            if not self._in_head:
                return Phase.BODY
            if not answering:
                return Phase.HEAD
        return Phase.ANSWER if answering else Phase.NEXT

    def _check_head(self) -> None:
        fields = self.headers
        size = len(self.url)
        if self._chunk_bytes > MAX_HEAD_BYTES:  # else it cannot be too large
            size += sum(len(name) + len(value) for name, value in fields)
        if len(fields) > MAX_FIELDS or size > MAX_HEAD_BYTES:
            raise HeadTooLargeError(MAX_HEAD_BYTES, MAX_FIELDS)
        if self.parser.should_upgrade() and any(name in _FRAMING for name, _ in fields):
            # The parser takes the body for the other protocol, and what is lost so is not answered.
            raise UnreadableRequestError(
                "a request with a body cannot also offer another protocol; leave 'Upgrade' out"
            )

    def _refuse(self, error: ServiceError) -> None:
        """Answer a request that did not come whole with a problem, and close."""
        head = self._in_head or not self._receiving
        self._discarding = True
        if self.cycle is not None and not self.cycle.response_complete:
            # Of a body: whoever reads it answers. Of a head: the one before is answered first.
            if head:
                self.cycle.keep_alive = False
            else:
                self.cycle.fail(error)
            return
        if head:
            self._answer(error)
        self._receiving = True  # its end cannot be known any more
        self.close_when_read()

    def _answer(self, error: ServiceError) -> None:
        response = problems.response_to(error)
        self._report(response.status_code)
        headers = {key.lower(): value for key, value in response.raw_headers}
        headers = {**dict(self.server_state.default_headers), **headers, b"connection": b"close"}
        lines = [b"%s: %s\r\n" % header for header in headers.items()]
        self.transport.write(
            b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)])
        )

    async def _busy(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problems.response_to(
            TooManyConnectionsError(self.server_state.limits.connections)
        )
        self._report(response.status_code)
        await response(scope, receive, send)

    def _report(self, status: int) -> None:
        if self.server_state.on_refusal is not None:
            now = time.perf_counter()
            begun = self.scope[BEGUN] if self._receiving else now  # type: ignore[literal-required]
            self.server_state.on_refusal(status, now - begun)
