"""A worker process: it loads the models, builds the application, and serves until shutdown.

On shutdown, uvicorn closes the listener and all idle connections at once, and waits without a
limit. This server stays open until load balancers have seen that it is not ready, sends
`Connection: close`, serves the connections that the kernel has accepted, and then cuts off slow
requests.
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
"""Time before the close, to accept the connections that the kernel has established."""
FIRST_REQUEST_SECONDS = 1.0
"""Grace period after the close for connections without a request: one may be in transit."""
TICK_SECONDS = 0.1
"""Interval at which uvicorn calls `on_tick`."""

logger = logging.getLogger("logitserve.worker")


@dataclass(frozen=True, slots=True)
class Serving:
    """The start-up report of a serving worker."""

    models: tuple[str, ...]
    default: str | None


class Server(uvicorn.Server):
    """uvicorn's server with the connections and shutdown of this project.

    tests/server/test_uvicorn.py fails if uvicorn changes an overridden method.
    """

    def __init__(self, settings: Settings, process: Process, begun: Callable[[], None]) -> None:
        config = uvicorn.Config(
            process.asgi,
            log_config=None,
            ws="none",
            access_log=False,  # the recorder's access log is faster
            lifespan="on",
            workers=1,  # else uvicorn reads WEB_CONCURRENCY itself, and fails if it is empty
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
        """Listen with this project's connections, because uvicorn's do not limit slow clients."""
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
        """Begin the shutdown; uvicorn's method would raise the signal again, and force the exit."""
        del sig, frame
        self._drain.begin()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down within the time limit without losing requests; the parent closes sockets."""
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
            tls.context(self._settings)  # validates the files in an unused context
            tls.load(context, self._settings)
            self._process.certificate.read()
            logger.info("the certificate was read again")
        except StartError as error:
            logger.error("the old certificate stays in use: %s", error)

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

    `number` identifies the worker, from 0; no other process has it.

    Returns:
        whether every request was answered. If not, a thread may still be running a model, and only
        `os._exit` ends the process without waiting for it.

    Raises:
        StartError: there is no such default model.
        NoModelsError: the folder of models is missing or empty.
        ModelFileError: a model fails its checks.
    """
    memory.give_back()
    shared.explainers.close_receiving()
    drain = Drain(linger_seconds=settings.linger_seconds, drain_seconds=settings.drain_seconds)
    start = shared.explainers.send
    process = Process.of(settings, shared, drain, number=number, start_explainer=start)
    serving = Serving(tuple(process.catalog.models), process.catalog.default)
    server = Server(settings, process, lambda: begun(serving))
    # Freeze the heap, whose objects live as long as the process; collecting first gains little.
    gc.freeze()
    gc.enable()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.run(server.serve([listener]))
    finally:
        if drain.complete:
            runner.close()
    return drain.complete
