"""A process that serves: it loads the models, builds the application, and serves until drained.

uvicorn closes the listener and all idle connections at once and waits without a limit. This server
stays open until load balancers have seen that it is not ready, lets clients leave by
`Connection: close`, serves what the kernel has accepted, and cuts off slow requests in the end.
"""

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from uvicorn.config import STARTUP_FAILURE

from logitserve_service.config.settings import Settings
from logitserve_service.errors import StartError
from logitserve_service.server import memory, tls
from logitserve_service.server.assembly import Process, Shared
from logitserve_service.server.connection import Connection
from logitserve_service.server.drain import EXIT_SECONDS, Drain

BACKLOG = 2048
SETTLE_SECONDS = 0.2
"""Between the last new connection and the close, to accept what the kernel has accepted."""
FIRST_REQUEST_SECONDS = 1.0
"""Grace period after the close for connections without a request: one may be in transit."""
TICK_SECONDS = 0.1
"""Interval at which uvicorn calls `on_tick`."""

logger = logging.getLogger("logitserve.worker")


@dataclass(frozen=True, slots=True)
class Serving:
    """The report of a worker that serves."""

    models: tuple[str, ...]
    default: str | None


class Server(uvicorn.Server):
    """uvicorn's server with this project's connections and drain.

    tests/server/test_uvicorn.py fails when uvicorn changes what is overridden here.
    """

    def __init__(self, settings: Settings, process: Process, begun: Callable[[], None]) -> None:
        config = uvicorn.Config(
            process.asgi,
            log_config=None,
            ws="none",
            access_log=False,  # the recorder's costs less
            lifespan="on",
            workers=1,  # else uvicorn reads WEB_CONCURRENCY itself, and fails where it is empty
            server_header=False,
        )
        super().__init__(config)
        self.server_state = self._connections = connections = process.connections
        self._drain = connections.drain
        self._settings = settings
        self._process = process
        self._begun = begun
        self._sweep_ticks = max(1, round(connections.sweep_seconds / TICK_SECONDS))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with this project's connections: uvicorn's have no limits on slow clients."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {}
        context = tls.context(self._settings)
        if context is not None:
            # A handshake may take as long as a header section.
            seconds = self._connections.limits.header_seconds
            secure = {"ssl": context, "ssl_handshake_timeout": seconds}
        loop.add_signal_handler(signal.SIGHUP, self._reread, context)
        loop.add_signal_handler(signal.SIGQUIT, self.handle_exit, signal.SIGQUIT, None)
        self.servers = []
        for listener in sockets or ():
            is_local = listener.family == socket.AF_UNIX
            listen = loop.create_unix_server if is_local else loop.create_server
            server = await listen(self._connect, sock=listener, backlog=BACKLOG, **secure)
            self.servers.append(server)
        self.started = True
        self._begun()

    def _connect(self) -> Connection:
        return Connection(self._connections, self._process.endpoint)

    async def on_tick(self, counter: int) -> bool:
        """Sweep the connections at their interval."""
        if counter % self._sweep_ticks == 0:
            self._connections.sweep(time.perf_counter())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop. uvicorn would raise the signal again afterwards, and force the exit."""
        del sig, frame
        self._drain.begin()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop without losing a request, within the time limit; the parent closes the sockets."""
        del sockets
        await self._tick_for(self._drain.seconds_of_linger)
        await self._tick_for(SETTLE_SECONDS)
        for server in self.servers:
            server.close()
        self._drain.closing.set()
        grace_end = time.monotonic() + FIRST_REQUEST_SECONDS
        await self._tick_while(
            lambda: self._connections.has_unused and time.monotonic() < grace_end
        )
        self._connections.close_idle()
        await self._tick_while(lambda: len(self._connections) > 0)
        self._drain.cut_off(self._connections.in_flight, "requests")
        self._connections.abort()
        with contextlib.suppress(TimeoutError):
            seconds = self._drain.seconds_left + EXIT_SECONDS / 2
            await asyncio.wait_for(self.lifespan.shutdown(), seconds)

    def _reread(self, context: ssl.SSLContext | None) -> None:
        self._process.reread()
        if context is None:
            return
        try:
            tls.context(self._settings)  # a trial, in a context that is not used
            tls.load(context, self._settings)
            self._process.certificate.read()
            logger.info("read the certificate again")
        except StartError as error:
            logger.error("kept the certificate: %s", error)

    async def _tick_while(self, waiting: Callable[[], bool]) -> None:
        while waiting() and self._drain.seconds_left:
            await self._tick_for(TICK_SECONDS)

    async def _tick_for(self, seconds: float) -> None:
        for counter in range(max(1, math.ceil(seconds / TICK_SECONDS))):
            await self.on_tick(counter)
            await asyncio.sleep(min(TICK_SECONDS, seconds))


def run(
    settings: Settings,
    listener: socket.socket,
    shared: Shared,
    number: int,
    begun: Callable[[Serving], None],
) -> bool:
    """Serve until stopped, and call `begun` once the models are loaded and the port is open.

    `number` is that of the worker, from 0; no other process has it.

    Returns:
        whether every request was answered. If not, a thread may still be running a model, and
        only `os._exit` ends the process without waiting for it.

    Raises:
        StartError: the default model does not exist.
        NoModelsError: the folder of models is missing or empty.
        ModelFileError: a model fails its checks.
    """
    memory.give_back()
    drain = Drain(linger_seconds=settings.linger_seconds, drain_seconds=settings.drain_seconds)
    process = Process.of(settings, shared, drain, number=number)
    serving = Serving(tuple(process.catalog.models), process.catalog.default)
    server = Server(settings, process, lambda: begun(serving))
    # Freeze the heap, which lives as long as the process; collecting first gains little.
    gc.freeze()
    gc.enable()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.run(server.serve([listener]))
    finally:
        if drain.complete:
            runner.close()
    return drain.complete
