"""How a process stops: unready at once, open for a while, then closed, all within a limit."""

import asyncio
import logging
import math
import socket
import time

from logitserve_service.config.settings import environment_name

logger = logging.getLogger("logitserve.drain")

EXIT_SECONDS = 0.5
"""Of the limit, this is kept for ending the process after what is in flight was cut off."""


class Drain:
    """Whether this process was told to stop, and how much time is left."""

    def __init__(self, *, linger_seconds: float, drain_seconds: float) -> None:
        """Nothing has been told yet.

        Args:
            linger_seconds: how long connections are still taken after the stop was told.
            drain_seconds: the process ends within so long.
        """
        self._linger_seconds = linger_seconds
        self._drain_seconds = drain_seconds
        self._begun = math.inf
        self._cut_off = 0
        self.closing = asyncio.Event()
        """Set when no more connections are taken."""

    @property
    def begun(self) -> bool:
        """Whether the process was told to stop."""
        return self._begun < math.inf

    def begin(self) -> None:
        """Tell it to stop. Told again, nothing changes: what is in flight keeps its time."""
        if not self.begun:
            self._begun = time.monotonic()

    def remind(self) -> None:
        """Say to whoever tells it again that it is stopping."""
        logger.warning(
            "already stopping: what is in flight has %.1f s more to be answered",
            self.seconds_left,
        )

    @property
    def seconds_of_linger(self) -> float:
        """For how long connections are still taken."""
        return max(0.0, self._begun + self._linger_seconds - time.monotonic())

    @property
    def seconds_left(self) -> float:
        """For how long what is in flight is still waited for."""
        return max(0.0, self._begun + self._drain_seconds - EXIT_SECONDS - time.monotonic())

    @property
    def complete(self) -> bool:
        """Whether nothing had to be cut off."""
        return not self._cut_off

    def cut_off(self, count: int, things: str) -> None:
        """Say that so many things were still in flight when the time was over."""
        if count:
            self._cut_off += count
            logger.warning(
                "cut off %d %s that were not answered within %g seconds (setting %s)",
                count,
                things,
                self._drain_seconds,
                environment_name("drain_seconds"),
            )


SO_BINDTOIFINDEX = 62  # asm-generic/socket.h; the socket module has no name for it
_NO_INTERFACE = 2**31 - 1


def refuse_handshakes(listener: socket.socket) -> None:
    """Let no new connection begin, in any process that shares the socket.

    Closing a listening socket resets the connections that the kernel has taken but that nobody
    has accepted yet, and with them the requests that were already sent on them. After this, those,
    and those whose handshake has begun, can be accepted until there are none, and whoever tries to
    connect is refused, as after the close: the socket listens on a network interface that nobody
    has. That takes no privilege (from Linux 5.7 on), where a filter of packets would.
    """
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, _NO_INTERFACE)
    except OSError as error:  # an older kernel, or a sandbox that lacks it
        logger.warning("connections that are just being made may be reset: %s", error)
