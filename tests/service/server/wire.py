"""A connection on a transport that is a buffer of bytes."""

import asyncio
from typing import Any, NamedTuple, cast

from logitserve_service.server.connection import Connection
from logitserve_service.server.connections import Connections
from tests.service.serving import Bench

TICKS = 2000
CLIENT = ("127.0.0.1", 50_000)


class Buffer(asyncio.Transport):
    """Keeps what is written; the test sets how much of it a client has not taken."""

    def __init__(self) -> None:
        super().__init__({"peername": CLIENT})
        self.written = b""
        self.unsent = 0
        self.closed = self.aborted = self.eof = self.paused = False

    def write(self, data: Any) -> None:
        ended = self.closed or self.eof
        assert not ended
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Reply(NamedTuple):
    status: int
    fields: dict[bytes, bytes]
    body: bytes


class Client:
    """One client of a bench."""

    def __init__(self, bench: Bench, connections: Connections | None = None) -> None:
        self.transport = Buffer()
        self.connections = bench.process.connections if connections is None else connections
        self.connection = Connection(self.connections, bench.endpoint)
        self.connection.connection_made(self.transport)

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.connection.data_received(part)

    async def send_slowly(self, *parts: bytes) -> None:
        """As an event loop would: not while reading is paused, nor after the close."""
        for part in parts:
            await self.until(lambda: self.transport.closed or not self.transport.paused)
            if self.transport.closed:
                return
            self.connection.data_received(part)
            await asyncio.sleep(0)

    async def until(self, condition: Any) -> None:
        for _ in range(TICKS):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"it does not come; there is {self.transport.written!r}")

    async def replies(self, count: int, *heads: int) -> list[Reply]:
        """So many responses, and no byte more; `heads` are those without a body."""
        await self.until(lambda: len(parse(self.transport.written, heads)) >= count)
        found = parse(self.transport.written, heads)
        assert len(found) == count
        return found

    async def reply(self) -> Reply:
        return (await self.replies(1))[0]

    async def ended(self) -> bool:
        """Whether nothing more is to come: closed, or closed for writing."""
        await asyncio.sleep(0)
        return self.transport.closed or self.transport.eof

    def leave(self) -> None:
        self.connection.connection_lost(None)


def parse(data: bytes, heads: tuple[int, ...] = ()) -> list[Reply]:
    """The whole responses at the beginning of the data; interim ones are left out."""
    replies: list[Reply] = []
    while b"\r\n\r\n" in data:
        top, _, data = data.partition(b"\r\n\r\n")
        line, *lines = top.split(b"\r\n")
        status = int(line.split()[1])
        if status == 100:
            continue
        fields = dict(cast("tuple[bytes, bytes]", each.split(b": ", 1)) for each in lines)
        length = 0 if len(replies) in heads else int(fields[b"content-length"])
        if len(data) < length:
            break
        replies.append(Reply(status, fields, data[:length]))
        data = data[length:]
    return replies


def request(
    method: str = "POST",
    target: str = "/predict",
    *fields: str,
    body: bytes | None = b"",
    version: str = "1.1",
) -> bytes:
    """A request; None leaves the length of the body out."""
    length = [] if body is None else [f"Content-Length: {len(body)}"]
    lines = [f"{method} {target} HTTP/{version}", "Host: x", *fields, *length, "", ""]
    return "\r\n".join(lines).encode() + (body or b"")
