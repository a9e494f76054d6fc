"""How a process stops: unready at once, open for a while, then closed, all within a limit."""

import asyncio
import ctypes
import logging
import math
import socket
import struct
import time

from service.settings import environment_name

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


SO_ATTACH_FILTER = 26  # linux/asm-generic/socket.h; the socket module has no name for it

# Classic BPF over the TCP header, whose byte 13 has the flags: is it a SYN? Then drop it.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # ldb [13]
        (0x45, 0, 1, 0x02),  # jset #SYN
        (0x06, 0, 0, 0),  # ret #0: drop
        (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1: keep
    )
)


def refuse_handshakes(listener: socket.socket) -> None:
    """Let no new connection begin, in any process that shares the socket.

    Closing a listening socket resets the connections that the kernel has taken but that nobody
    has accepted yet, and with them the requests that were already sent on them. After this, those
    can be accepted until there are none. Whoever tries to connect meanwhile hears nothing, tries
    again after a second, and is refused, as after the close.
    """
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }
    pointer = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
    except OSError as error:  # a sandbox that has no filters
        logger.warning("connections that are just being made may be reset: %s", error)
