"""The gRPC server: it begins and ends with the HTTP server of the same process."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from logitserve_service.config.settings import Settings
from logitserve_service.execution.classify import Classifier
from logitserve_service.http.auth import Guard
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.readiness import Readiness
from logitserve_service.server import tls
from logitserve_service.server.drain import EXIT_SECONDS, Drain
from logitserve_service.server.grpc.keys import KeyInterceptor
from logitserve_service.server.grpc.servicer import Servicer, handler
from logitserve_service.telemetry.metrics import Metrics

logger = logging.getLogger("logitserve.rpc")


class GrpcServer:
    """A gRPC server over the models that HTTP serves too."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        classifier: Classifier,
        *,
        metrics: Metrics,
        readiness: Readiness,
        drain: Drain,
        guard: Guard,
    ) -> None:
        self._settings = settings
        self._drain = drain
        self._interceptors = [KeyInterceptor(guard)] if guard.asks_keys else []
        self._servicer = Servicer(
            catalog, classifier, readiness, max_pictures=settings.max_pictures
        )
        self._handler = handler(self._servicer, metrics)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the process takes no more connections, and answer what has begun."""
        server = await self._start()
        stopping = asyncio.create_task(self._stop(server))
        try:
            yield
        finally:
            self._drain.closing.set()
            await stopping

    async def _stop(self, server: Any) -> None:
        await self._drain.closing.wait()
        stopped = asyncio.create_task(server.stop(self._drain.seconds_left + EXIT_SECONDS / 4))
        await asyncio.wait([stopped], timeout=self._drain.seconds_left)
        self._drain.cut_off(self._servicer.in_flight, "gRPC calls")
        await stopped

    async def _start(self) -> Any:
        server = grpc.aio.server(
            interceptors=self._interceptors,
            options=[
                # Each worker listens on the port; the kernel spreads connections over them.
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ],
        )
        server.add_generic_rpc_handlers((self._handler,))
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        address = f"{address}:{self._settings.grpc_port}"
        pair = tls.files(self._settings)
        if pair is None:
            server.add_insecure_port(address)
        else:
            certificate, key = (path.read_bytes() for path in pair)
            credentials = grpc.ssl_server_credentials([(key, certificate)])
            server.add_secure_port(address, credentials)
        await server.start()
        return server
