"""Small requests at a steady rate, whatever the server does; prints their latencies as JSON.

Open loop: the time of a request counts from when it was due, so that a server that stands still is
not asked less. Run by `sweeps.py` on a core of its own.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path

import numpy as np
import uvloop

CONNECTIONS = 32


class Stream(asyncio.Protocol):
    """One keep-alive connection: one request at a time."""

    def __init__(self, idle: "asyncio.Queue[Stream | Exception]", taken: list[float]) -> None:
        self._idle = idle
        self._taken = taken
        self._due = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._idle.put_nowait(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.put_nowait(exc or ConnectionError("the server closed a connection"))

    def ask(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length):
            return
        if head.startswith(b"HTTP/1.1 200"):
            self._taken.append(time.perf_counter() - self._due)
            self._idle.put_nowait(self)
        else:
            self._idle.put_nowait(RuntimeError(self._received.decode()))
        self._received = b""


async def stream(port: int, body: bytes, rate: float, seconds: float) -> list[float]:
    """Seconds of each request."""
    request = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body
    taken: list[float] = []
    idle: asyncio.Queue[Stream | Exception] = asyncio.Queue()

    async def free() -> Stream:
        found = await idle.get()
        if isinstance(found, Exception):
            raise found
        return found

    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Stream(idle, taken), "127.0.0.1", port)
    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        (await free()).ask(request, due)
    for _ in range(CONNECTIONS):
        await free()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, required=True)
    asked = parser.parse_args()
    taken = uvloop.run(stream(asked.port, asked.body.read_bytes(), asked.rate, asked.seconds))
    p50, p99 = np.percentile(taken, (50, 99)) * 1000
    print(json.dumps({"requests": len(taken), "p50_ms": p50, "p99_ms": p99}))


if __name__ == "__main__":
    main()
