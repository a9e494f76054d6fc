"""All connections of a process: how many there may be, and how long they may take.

Time is watched by one sweep over all connections, not by a timer a request: a request pays nothing
for it.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

from logitserve_service.http.direct import Direct
from logitserve_service.http.known_heads import KnownHeads
from logitserve_service.server.connection import Connection, Phase
from logitserve_service.server.drain import Drain

LEFTOVER_SECONDS = 5
"""How long a client that was answered before it had sent its whole request may go on sending.
Closing earlier would reset the connection, and with it an answer that was not read yet."""

logger = logging.getLogger("logitserve.connections")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take."""

    connections: int
    header_seconds: float
    body_seconds: float
    keep_alive_seconds: float


OnRefusal = Callable[[int, float], None]
"""Told of an answer that no app gave: its status, and how many seconds after the request began."""


class Connections(ServerState):
    """All connections of a process, as uvicorn knows them, with their limits."""

    def __init__(self, limits: Limits, drain: Drain) -> None:
        super().__init__()
        self.limits = limits
        self.drain = drain
        self.on_refusal: OnRefusal | None = None
        self.direct: Direct | None = None
        self.known_heads = KnownHeads()
        self._success: tuple[object, bytes] = None, b""
        self.patience: Mapping[Phase, float] = {
            Phase.HEAD: limits.header_seconds,
            Phase.BODY: limits.body_seconds,
            Phase.ANSWER: math.inf,
            Phase.READER: limits.body_seconds,
            Phase.NEXT: limits.keep_alive_seconds,
            Phase.LEFTOVER: LEFTOVER_SECONDS,
        }
        """Seconds that a connection may stay in a phase."""

    def __len__(self) -> int:
        return len(self.connections)

    @property
    def success(self) -> bytes:
        """How an answer begins that is one: its first line, and the headers of every answer."""
        if self._success[0] is not self.default_headers:  # uvicorn makes them anew every second
            lines = [STATUS_LINE[200], *[b"%b: %b\r\n" % header for header in self.default_headers]]
            self._success = self.default_headers, b"".join(lines)
        return self._success[1]

    @property
    def crowded(self) -> bool:
        """Whether there are as many as may be."""
        return len(self.connections) >= self.limits.connections

    @property
    def in_flight(self) -> int:
        """Connections with a request that is not answered yet."""
        return sum(_of(connection).in_flight for connection in self.connections)

    @property
    def sweep_seconds(self) -> float:
        """How often to sweep, so that nobody stays much longer than he may."""
        return min(1.0, min(self.patience.values()) / 5)

    def sweep(self, now: float) -> None:
        """Cut off every client that took longer than it may.

        Args:
            now: seconds of a clock that only goes forward.
        """
        cut = sum(_of(connection).check(now) for connection in list(self.connections))
        if cut:
            logger.info("cut off %d connections that took too long", cut)

    def close_after_answer(self) -> None:
        """Let every answer that has not begun say that its connection closes."""
        for connection in self.connections:
            _of(connection).close_after_answer()

    @property
    def expectant(self) -> bool:
        """Whether somebody has connected who has not asked anything yet."""
        return any(not _of(connection).has_asked for connection in self.connections)

    def close_idle(self) -> None:
        """Close every connection on which nothing is in flight."""
        for connection in list(self.connections):
            if not _of(connection).in_flight:
                _of(connection).transport.close()

    def abort(self) -> None:
        """Close every connection, answered or not."""
        for connection in list(self.connections):
            _of(connection).transport.abort()


def _of(connection: object) -> Connection:
    assert isinstance(connection, Connection)  # noqa: S101 - narrows the type
    return connection
