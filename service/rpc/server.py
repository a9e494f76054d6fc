"""The gRPC server: it begins and ends with the HTTP server of the same process."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from service.catalog import Catalog
from service.classify import Classifier
from service.metrics import Metrics
from service.rpc.servicer import Servicer, handler
from service.settings import Settings

GRACE_SECONDS = 30
"""What is in flight when the server is told to stop has this long to be answered."""

logger = logging.getLogger("logitserve.rpc")


class GrpcServer:
    """A gRPC server over the models that HTTP serves too."""

    def __init__(
        self, settings: Settings, catalog: Catalog, classifier: Classifier, metrics: Metrics
    ) -> None:
        self._settings = settings
        servicer = Servicer(catalog, classifier, max_pictures=settings.max_pictures)
        self._handler = handler(servicer, metrics)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve as long as the context lasts."""
        server = await self._start()
        try:
            yield
        finally:
            await server.stop(GRACE_SECONDS)

    async def _start(self) -> Any:
        server = grpc.aio.server(
            options=[
                # Each worker listens on the port; the kernel spreads connections over them.
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        server.add_generic_rpc_handlers((self._handler,))
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        server.add_insecure_port(f"{address}:{self._settings.grpc_port}")
        await server.start()
        return server
