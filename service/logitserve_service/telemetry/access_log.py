"""The access log: one line per response, buffered.

A `logging` record costs 34 µs, a line here less than 5. Each write has at most PIPE_BUF bytes, so
that lines of several workers do not mix in a pipe.
"""

import contextlib
import errno
import logging
import os
import select
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

import orjson

from logitserve_service.periodically import periodically
from logitserve_service.telemetry.exchange import Exchange, described
from logitserve_service.telemetry.logs import LogFormat, rfc3339, takes_more, visible
from logitserve_service.telemetry.request_ids import described as ids_of

WRITE_SECONDS = 0.1
MAX_PATH_BYTES = 512  # longer paths are cut: a line, with its escapes, must fit into one write


logger = logging.getLogger("logitserve.access")


class AccessLog:
    """Writes lines to a file descriptor."""

    def __init__(
        self, descriptor: int, log_format: LogFormat, lost: Callable[[int], None] = lambda _: None
    ) -> None:
        """Set the target; `lost` is called with the number of lines that could not be written."""
        self._descriptor = descriptor
        self._lost = lost
        self._is_losing = False
        self._line = _json if log_format == "json" else _text
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, exchange: Exchange, seconds: float) -> None:
        """Log a response and its duration in seconds."""
        path = exchange.path[:MAX_PATH_BYTES].decode("latin-1")
        line = self._line(exchange, path, seconds)
        if self._size + len(line) > select.PIPE_BUF:
            self.write()
        self._lines.append(line)
        self._size += len(line)

    def write(self) -> None:
        """Write the buffered lines."""
        lines, self._lines, self._size = self._lines, [], 0
        try:
            if not takes_more(self._descriptor):
                raise BlockingIOError(errno.EAGAIN, "its reader does not read")
            os.write(self._descriptor, b"".join(lines))
        except OSError as error:  # requests are answered even if the log has no reader
            self._lost(len(lines))
            if not self._is_losing:
                self._is_losing = True
                text = (
                    "the access log cannot be written: %s; its lines are lost until it is writable"
                )
                logger.error(text, error.strerror)
        else:
            self._is_losing = self._is_losing and not lines

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write the buffer ten times a second, and at the end of the context."""
        try:
            async with periodically(WRITE_SECONDS, self.write):
                yield
        finally:
            self.write()


def _level(exchange: Exchange) -> str:
    is_trouble = exchange.status >= 500 or exchange.status == HTTPStatus.TOO_MANY_REQUESTS
    return "warning" if is_trouble else "info"


def _text(exchange: Exchange, path: str, seconds: float) -> bytes:
    ids = " ".join([f"{name}={value}" for name, value in ids_of(exchange.identity).items()])
    return (
        f"{rfc3339(time.time())} {_level(exchange).upper()} {os.getpid()} "
        f"{visible(exchange.client or '-')} "
        f'"{exchange.method} {visible(path)}" {exchange.status} {exchange.size} bytes '
        f"{seconds:.6f} s {ids}\n"
    ).encode()


def _json(exchange: Exchange, path: str, seconds: float) -> bytes:
    members = {
        "time": rfc3339(time.time()),
        "level": _level(exchange),
        "logger": "logitserve.access",
        "pid": os.getpid(),
        "message": f"{exchange.method} {path} {exchange.status}",
        **ids_of(exchange.identity),
        "path": path,
        **described(exchange, seconds),
    }
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)
