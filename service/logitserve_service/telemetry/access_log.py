"""A line for every answer, at a cost that need not be saved.

A record through `logging` costs as much as a good part of an answer. Here an answer becomes a line
at once, while all that it tells of is at hand; lines go out ten times a second, or as many as are
written whole together: a pipe takes up to PIPE_BUF bytes at once, so that lines of several workers
do not mix.
"""

import asyncio
import contextlib
import os
import select
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Self

import orjson
from starlette.types import Scope

from logitserve_service.config.settings import Settings
from logitserve_service.http.routes.probes import PROBES
from logitserve_service.telemetry.logs import LogFormat, rfc3339, visible
from logitserve_service.telemetry.request_ids import Identity

LOGGER = "logitserve.access"
WRITE_SECONDS = 0.1
MAX_PATH_BYTES = 1024
"""Of a path, more is cut off: a line has to fit into one write."""

Headers = Iterable[tuple[bytes, bytes]]
Asked = tuple[str | None, str, bytes]
"""The client's address, the method, and the beginning of the path as it was sent."""
Record = tuple[Asked, Identity, str, int, float, int]
"""An answer: what was asked, the request's identity and route, then the answer's status, seconds
and bytes. A bare tuple, because each answer makes one."""

QUIET_ROUTES = PROBES | {"/metrics"}
"""Machines ask these every few seconds, and nobody reads about it."""


class AccessLog:
    """Writes a line an answer."""

    def __init__(
        self, descriptor: int, log_format: LogFormat, *, left_out: frozenset[str] = frozenset()
    ) -> None:
        """Begin with nothing to write.

        Args:
            descriptor: of the open file to write to.
            log_format: of the lines.
            left_out: routes whose answers are not worth a line.
        """
        self._descriptor = descriptor
        lines = _Lines()
        self._line: Callable[[Record], bytes] = lines.json if log_format == "json" else lines.text
        self._left_out = left_out
        self._lines: list[bytes] = []
        self._size = 0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The access log that the settings ask for, on standard output."""
        is_debugging = settings.log_level == "debug"
        left_out = frozenset() if is_debugging else QUIET_ROUTES
        return cls(sys.stdout.fileno(), settings.log_format, left_out=left_out)

    def add(
        self,
        scope: Scope,
        identity: Identity,
        route: str,
        *,
        status: int,
        seconds: float,
        headers: Headers,
    ) -> None:
        """Say that an answer was given just now."""
        if route in self._left_out:
            return
        client = scope["client"]
        asked = client and client[0], scope["method"], scope["raw_path"][:MAX_PATH_BYTES]
        line = self._line((asked, identity, route, status, seconds, _bytes(headers)))
        if self._size + len(line) > select.PIPE_BUF:
            self.write()
        self._lines.append(line)
        self._size += len(line)

    def write(self) -> None:
        """Write what there is."""
        lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return
        # Where nobody reads any more, the answers go on.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, b"".join(lines))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write every now and then as long as the context lasts, and what is left at its end."""
        writing = asyncio.create_task(self._write_on())
        try:
            yield
        finally:
            writing.cancel()
            self.write()

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            self.write()


def _path(raw: bytes) -> str:
    # As it was sent: without the query, and with its percent signs.
    return raw.decode("latin-1")


def _bytes(headers: Headers) -> int:
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return 0


def _plain(text: str) -> str:
    return text if text.isprintable() else visible(text)


@lru_cache(1024)
def _quoted(asked: Asked) -> bytes:
    client, method, path = asked
    return f'{_plain(client) if client else "-"} "{method} {_plain(_path(path))}"'.encode()


@lru_cache(1024)
def _members(asked: Asked, route: str) -> bytes:
    """What a line says of the request in JSON, without the braces."""
    client, method, raw = asked
    members = {"client": client, "method": method, "path": _path(raw), "route": route}
    return orjson.dumps(members)[1:-1]


@lru_cache(1024)
def _message(asked: Asked, status: int) -> bytes:
    _, method, raw = asked
    return orjson.dumps(f"{method} {_path(raw)} {status}")


class _Lines:
    """Records as lines. What is the same for many is not made anew for each."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._milliseconds = self._second = 0
        self._prefix = ""
        self._now = b""

    def _time(self) -> bytes:
        milliseconds = int(time.time() * 1000)
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            second, rest = divmod(milliseconds, 1000)
            if second != self._second:
                self._second = second
                self._prefix = rfc3339(second)[: -len("000Z")]
            self._now = f"{self._prefix}{rest:03d}Z".encode()
        return self._now

    def text(self, record: Record) -> bytes:
        asked, (request_id, trace), _, status, seconds, size = record
        traced = "" if trace is None else f" trace_id={trace.trace_id} span_id={trace.span_id}"
        return b"%b INFO %d %b %d %d bytes %.6f s request_id=%b%b\n" % (
            *(self._time(), self._pid, _quoted(asked), status, size, seconds),
            *(request_id, traced.encode()),
        )

    def json(self, record: Record) -> bytes:
        asked, (request_id, trace), route, status, seconds, size = record
        traced = {} if trace is None else {"trace_id": trace.trace_id, "span_id": trace.span_id}
        ids = orjson.dumps({"request_id": request_id.decode(), **traced})[1:-1]
        return (
            b'{"time":"%b","level":"info","logger":"%b","pid":%d,"message":%b,'
            b'%b,%b,"status":%d,"seconds":%.6f,"bytes":%d}\n'
        ) % (
            *(self._time(), LOGGER.encode(), self._pid, _message(asked, status)),
            *(ids, _members(asked, route), status, seconds, size),
        )
