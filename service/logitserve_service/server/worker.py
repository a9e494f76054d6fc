"""A process that serves: it loads the models, builds the app, and answers until it was drained."""

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
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
import uvloop
from uvicorn.config import STARTUP_FAILURE

from logitserve.inference.repository import ModelRepository, OneModelRepository
from logitserve.inference.runtime import available_cpus
from logitserve_service.config.settings import Settings
from logitserve_service.config.version_policy import VersionPolicy
from logitserve_service.errors import StartError
from logitserve_service.http.app import create_app
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loader import Loader
from logitserve_service.repository.shared_state import Coordination
from logitserve_service.server import memory, tls
from logitserve_service.server.connection import Connection
from logitserve_service.server.connections import Connections, Limits
from logitserve_service.server.drain import EXIT_SECONDS, Drain, refuse_handshakes

BACKLOG = 2048

SETTLE_SECONDS = 0.2
"""Between the last new connection and the close: what the kernel has taken is accepted."""

FIRST_REQUEST_SECONDS = 1.0
"""So long after the close, a connection is kept on which no request has come yet."""

TICK_SECONDS = 0.1
"""How often uvicorn looks after its state."""


logger = logging.getLogger("logitserve.worker")


@dataclass(frozen=True, slots=True)
class Serving:
    """What a worker says once it answers."""

    models: tuple[str, ...]
    default: str | None


def run(
    settings: Settings,
    listener: socket.socket,
    shared: Path,
    *,
    alone: bool,
    begun: Callable[[Serving], None],
) -> bool:
    """Serve until told to stop.

    Args:
        settings: of the service.
        listener: whom to accept connections from.
        shared: a folder that the workers of this service share.
        alone: whether no other process shares the listener.
        begun: told once this worker answers.

    Returns:
        whether everything was answered. If not, a thread may still be running a model, and
        only `os._exit` ends the process without waiting for it.

    Raises:
        StartError: the default model is not there.
        NoModelsError: the folder of models is missing or empty.
        ModelFileError: one of the models must not be served.
    """
    memory.give_back()
    catalog = load_catalog(settings, shared)
    drain = Drain(linger_seconds=settings.linger_seconds, drain_seconds=settings.drain_seconds)
    connections = Connections(_limits(settings), drain)
    app = create_app(settings, catalog, shared=shared, drain=drain, connections=connections)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        http=Connection,
        ws="none",
        access_log=False,  # ours costs less
        # The client's address is used for nothing but the access log.
        proxy_headers=settings.access_log,
        lifespan="on",
        server_header=False,
    )
    serving = Serving(tuple(catalog.models), catalog.default)
    server = Server(
        config,
        connections,
        settings,
        alone=alone,
        begun=lambda: begun(serving),
    )
    # What has been made so far lives as long as the process; the collector need not walk it again,
    # nor once now: hardly any of it is garbage.
    gc.freeze()
    gc.enable()
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    try:
        runner.run(server.serve([listener]))
    finally:
        if drain.complete:
            runner.close()
    return drain.complete


def _limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.max_connections,
        header_seconds=settings.header_timeout_seconds,
        body_seconds=settings.body_timeout_seconds,
        keep_alive_seconds=settings.keep_alive_seconds,
    )


def _repository(settings: Settings) -> ModelRepository:
    if settings.model_name is None:
        return ModelRepository(settings.models)
    return OneModelRepository(settings.models, settings.model_name)


def load_catalog(settings: Settings, shared: Path) -> Catalog:
    """Load the models that the settings name.

    Args:
        settings: of the service.
        shared: a folder that the workers of this service share; it goes when the service ends.
    """
    threads = settings.threads or max(1, available_cpus() // settings.workers)
    loader = Loader(
        _repository(settings),
        VersionPolicy.parse(settings.version_policy),
        threads=threads,
        max_queue=settings.max_queue,
    )
    return Catalog.load(loader, Coordination(shared), default=settings.default_model)


class Server(uvicorn.Server):
    """uvicorn's server, but for how it stops.

    uvicorn closes the listener and all idle connections at once, and waits for ever. This one
    stays open until load balancers have seen that it is not ready, lets clients leave by
    `Connection: close`, loses nothing that the kernel has taken, and cuts off what is too slow.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        settings: Settings,
        *,
        alone: bool,
        begun: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self.server_state = self._connections = connections
        self._drain = connections.drain
        self._alone = alone
        self._begun = begun
        self._sweep_ticks = max(1, round(connections.sweep_seconds / TICK_SECONDS))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        loop = asyncio.get_running_loop()
        secure: dict[str, Any] = {}
        context = tls.context(self._settings)
        if context is not None:
            # A handshake has as long as a head.
            seconds = self._connections.limits.header_seconds
            secure = {"ssl": context, "ssl_handshake_timeout": seconds}
            loop.add_signal_handler(signal.SIGHUP, self._read_certificate, context)
        self.servers = [
            await loop.create_server(self._connection, sock=listener, backlog=BACKLOG, **secure)
            for listener in sockets or ()
        ]
        self.started = True
        self._begun()

    async def on_tick(self, counter: int) -> bool:
        """Look after the connections every now and then."""
        if counter % self._sweep_ticks == 0:
            self._connections.sweep(time.monotonic())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; the main loop notices within a tick."""
        del sig, frame
        if self._drain.begun and self._alone:
            self._drain.remind()
        self._drain.begin()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop without losing anything, in the time that there is."""
        self._connections.close_after_answer()
        await self._tick_for(self._drain.seconds_of_linger)
        if self._alone:
            for listener in sockets or ():
                refuse_handshakes(listener)
        await self._tick_for(SETTLE_SECONDS)
        for server in self.servers:
            server.close()
        self._drain.closing.set()
        await self._wait_for_first_requests()
        self._connections.close_idle()
        while len(self._connections) and self._drain.seconds_left:
            await self._tick_for(TICK_SECONDS)
        self._drain.cut_off(self._connections.in_flight, "requests")
        self._connections.abort()
        with contextlib.suppress(TimeoutError):
            seconds = self._drain.seconds_left + EXIT_SECONDS / 2
            await asyncio.wait_for(self.lifespan.shutdown(), seconds)

    async def _wait_for_first_requests(self) -> None:
        # Who connected just now has as good as asked; under load that takes a while to arrive.
        end = time.monotonic() + FIRST_REQUEST_SECONDS
        while self._connections.expectant and time.monotonic() < end and self._drain.seconds_left:
            await self._tick_for(TICK_SECONDS)

    def _read_certificate(self, context: ssl.SSLContext) -> None:
        try:
            tls.context(self._settings)  # in one that nobody uses yet
            tls.load(context, self._settings)
            logger.info("read the certificate again")
        except StartError as error:
            logger.error("kept the certificate: %s", error)

    def _connection(self) -> asyncio.Protocol:
        return Connection(self.config, self._connections, self.lifespan.state)

    async def _tick_for(self, seconds: float) -> None:
        for counter in range(max(1, math.ceil(seconds / TICK_SECONDS))):
            await self.on_tick(counter)
            await asyncio.sleep(min(TICK_SECONDS, seconds))
