"""All connections of a process, with limits on their number and on the time of each phase.

One periodic sweep enforces the timeouts, so that a request needs no timer.
"""

import asyncio
import enum
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from logitserve_service.config.proxies import Proxies
from logitserve_service.server.drain import Drain

DISCARD_SECONDS = 5
"""How long a client may continue to send a request that was answered before it was complete.
Closing earlier would reset the connection, and the client could lose the response."""
LEAVING_SECONDS = 5
"""How long a client that has closed its sending side still gets responses. If it has closed both
sides, which looks the same, its requests must not stay in the queue."""
EXTRA_CONNECTIONS = 100
"""Connections accepted over the limit, so that probes are answered."""
FEWEST_FILES = 48
"""Open files that a worker needs besides its connections; one with gRPC and five models has 32."""
HURRIED_SECONDS = 2
"""The idle timeout while the limit is reached."""

logger = logging.getLogger("logitserve.connections")


class Phase(enum.Enum):
    """The state of a connection: what it waits for."""

    HEAD = enum.auto()
    BODY = enum.auto()
    RESPONSE = enum.auto()
    WRITE = enum.auto()  # the client to read the response
    IDLE = enum.auto()  # the next request, or the first
    LEAVING = enum.auto()  # the last responses to a client that has closed its sending side
    DISCARD = enum.auto()  # the rest of a request that was answered before it was complete


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on clients."""

    connections: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float
    request_seconds: float
    extra: int = EXTRA_CONNECTIONS


class Watched(Protocol):
    """The interface of a connection for the sweep and the drain."""

    transport: asyncio.Transport
    requests: int  # number of requests begun

    @property
    def in_flight(self) -> bool:
        """Whether a request is unanswered, or a response is being sent."""

    def check(self, now: float) -> bool:
        """Enforce the timeouts; return whether a request was cut off."""


class Connections(ServerState):
    """All connections of a process, as uvicorn's server state, with their limits."""

    def __init__(self, limits: Limits, drain: Drain, proxies: Proxies) -> None:
        super().__init__()
        self.limits = limits
        self.drain = drain
        self.proxies = proxies
        self._watched: set[Watched] = set()
        self._extra: dict[Watched, None] = {}  # connections over the limit, oldest first
        self._heads: dict[int, bytes] = {}
        self._heads_of: object = None
        self.seconds: Mapping[Phase, float] = {
            Phase.HEAD: limits.header_seconds,
            Phase.BODY: limits.body_seconds,
            Phase.RESPONSE: math.inf,  # limited by the ticket's deadline
            Phase.WRITE: limits.body_seconds,
            Phase.IDLE: limits.keep_alive_seconds,
            Phase.LEAVING: LEAVING_SECONDS,
            Phase.DISCARD: DISCARD_SECONDS,
        }
        """Maximum seconds in each phase."""

    def __len__(self) -> int:
        return len(self._watched)

    def add(self, connection: Watched) -> bool:
        """Add a connection; return whether it is over the limit.

        Above the extra limit, the oldest connection over the limit that has sent no request is
        closed.
        """
        self._watched.add(connection)
        excess = len(self._watched) - self.limits.connections
        if excess <= 0:
            return False
        self._extra[connection] = None
        if excess > self.limits.extra:
            silent = next((each for each in self._extra if not each.requests), connection)
            del self._extra[silent]
            silent.transport.abort()
        return True

    def remove(self, connection: Watched) -> None:
        """Remove a closed connection."""
        self._watched.discard(connection)
        self._extra.pop(connection, None)

    def seconds_in(self, phase: Phase, *, over_limit: bool) -> float:
        """Return the current maximum seconds in a phase."""
        full = len(self._watched) >= self.limits.connections
        hurried = over_limit or (full and phase is Phase.IDLE)
        return min(self.seconds[phase], HURRIED_SECONDS if hurried else math.inf)

    def response_head(self, status: int) -> bytes:
        """Return status line and default headers of a response."""
        if self._heads_of is not self.default_headers:  # uvicorn replaces them every second
            self._heads_of = self.default_headers
            self._heads = {}
        head = self._heads.get(status)
        if head is None:
            lines = [b"%b: %b\r\n" % header for header in self.default_headers]
            head = self._heads[status] = b"".join([STATUS_LINE[status], *lines])
        return head

    @property
    def in_flight(self) -> int:
        """Number of connections with an unanswered request."""
        return sum(connection.in_flight for connection in self._watched)

    @property
    def sweep_seconds(self) -> float:
        """Seconds between sweeps: a fifth of the shortest limit, at most one second."""
        return min(1.0, min(*self.seconds.values(), self.limits.request_seconds) / 5)

    def sweep(self, now: float) -> None:
        """Cut off slow clients; `now` is the time by `time.perf_counter`."""
        cut = sum(connection.check(now) for connection in list(self._watched))
        if cut:
            logger.info("cut off %d connections that exceeded a time limit", cut)

    @property
    def has_unused(self) -> bool:
        """Whether a client has connected but sent no request."""
        return any(not connection.requests for connection in self._watched)

    def close_idle(self) -> None:
        """Close every connection without a request in flight."""
        for connection in list(self._watched):
            if not connection.in_flight:
                connection.transport.close()

    def abort(self) -> None:
        """Close every connection at once."""
        for connection in list(self._watched):
            connection.transport.abort()
