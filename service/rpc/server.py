"""The gRPC server: it begins and ends with the HTTP server of the same process."""

import logging
from typing import Any

import grpc
from starlette.types import ASGIApp, Receive, Scope, Send

from service.catalog import Catalog
from service.classify import Classifier
from service.rpc.servicer import Servicer, handler
from service.settings import Settings

GRACE_SECONDS = 30
"""What is in flight when the server is told to stop has this long to be answered."""

logger = logging.getLogger("logitserve.rpc")


class WithGrpc:
    """An ASGI app in whose lifespan a gRPC server runs, over the same models."""

    def __init__(
        self, app: ASGIApp, settings: Settings, catalog: Catalog, classifier: Classifier
    ) -> None:
        self._app = app
        self._settings = settings
        self._servicer = Servicer(catalog, classifier, max_pictures=settings.max_pictures)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on requests; start and stop with the lifespan (ASGI lifespan protocol 2.0)."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        server = await self._start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await server.stop(GRACE_SECONDS)
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> Any:
        server = grpc.aio.server(
            options=[
                # Each worker listens on the port; the kernel spreads connections over them.
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", self._settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        server.add_generic_rpc_handlers((handler(self._servicer),))
        host = self._settings.host
        address = f"[{host}]" if ":" in host else host
        server.add_insecure_port(f"{address}:{self._settings.grpc_port}")
        await server.start()
        return server
