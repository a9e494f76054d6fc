"""Graceful shutdown: not ready at once, open for a while, then closed, within a time limit."""

import asyncio
import logging
import math
import socket
import time
from pathlib import Path

from logitserve_service.config.settings import environment_name

logger = logging.getLogger("logitserve.drain")

EXIT_SECONDS = 0.5
"""Part of the time limit reserved for the exit, after requests in flight are cut off."""
SO_BINDTOIFINDEX = 62  # asm-generic/socket.h; the socket module has no name for it
_NO_INTERFACE = 2**31 - 1


class Drain:
    """Whether this process is stopping, and how much time is left."""

    def __init__(self, *, linger_seconds: float, drain_seconds: float) -> None:
        """Set the times: connections are accepted for `linger_seconds`; exit by `drain_seconds`."""
        self._linger_seconds = linger_seconds
        self._drain_seconds = drain_seconds
        self._begun = math.inf
        self.complete = True
        """Whether nothing had to be cut off."""
        self.closing = asyncio.Event()
        """Set when connections are no longer accepted."""

    @property
    def begun(self) -> bool:
        """Whether the process is stopping."""
        return self._begun < math.inf

    def begin(self) -> None:
        """Begin to stop; a second call has no effect, and requests in flight keep their time."""
        if not self.begun:
            self._begun = time.monotonic()

    def remind(self) -> None:
        """Log, at a repeated signal, that the process is stopping."""
        text = "already stopping: requests in flight have %.1f s left"
        logger.warning(text, self.seconds_left)

    @property
    def seconds_of_linger(self) -> float:
        """Seconds for which connections are still accepted."""
        return max(0.0, self._begun + self._linger_seconds - time.monotonic())

    @property
    def seconds_left(self) -> float:
        """Seconds for which the process still waits for requests in flight."""
        return max(0.0, self._begun + self._drain_seconds - EXIT_SECONDS - time.monotonic())

    def cut_off(self, count: int, things: str) -> None:
        """Log the number of requests in flight when the time limit was reached."""
        if count:
            self.complete = False
            text = "cut off %d %s that were not answered within %g seconds (setting %s)"
            setting = environment_name("drain_seconds")
            logger.warning(text, count, things, self._drain_seconds, setting)


def refuse_handshakes(listener: socket.socket) -> None:
    """Refuse new connections in all processes that share the socket.

    Closing a listener resets connections that the kernel has established but the process has not
    accepted, and loses their requests. This function binds the listener to a network interface that
    does not
    exist: connections whose handshake has begun can still be accepted, and new ones are refused as
        after
    a close. Unlike a packet filter, it needs no privileges (from Linux 5.7 on). The file of a Unix
    socket is removed instead.
    """
    if listener.family == socket.AF_UNIX:
        Path(listener.getsockname()).unlink(missing_ok=True)
        return
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, _NO_INTERFACE)
    except OSError as error:  # an older kernel, or a sandbox without the option
        logger.warning("connections during their handshake may be reset: %s", error)
