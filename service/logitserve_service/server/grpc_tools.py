"""gRPC services for tools: health checking and server reflection.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md, doc/server-reflection.md.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from logitserve.inference.errors import ModelNotFoundError
from logitserve_service.api import inference_pb2 as pb
from logitserve_service.errors import NotReadyError
from logitserve_service.http.probes import Readiness
from logitserve_service.repository.catalog import Catalog
from logitserve_service.server.drain import Drain

HEALTH: Final = "grpc.health.v1.Health"
REFLECTION: Final = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""Two names of the same service; tools try the first, and the second if it is missing."""
(INFERENCE,) = (service.full_name for service in pb.DESCRIPTOR.services_by_name.values())
WATCH_SECONDS: Final = 0.25
"""Seconds between two checks of a watched status."""

Status: Any = health_pb2.HealthCheckResponse


class Health:
    """Health of the process (requested by no name or a service name), and of each model."""

    def __init__(self, catalog: Catalog, readiness: Readiness, drain: Drain) -> None:
        self._catalog = catalog
        self._readiness = readiness
        self._closing = drain.closing

    def check(self, service: str) -> Any:
        """Return whether a service or model can be used; raises ModelNotFoundError."""
        if service not in ("", INFERENCE, HEALTH):
            try:
                self._catalog.find(service)
            except NotReadyError:
                return Status(status=Status.NOT_SERVING)
        ready = self._readiness.ready
        return Status(status=Status.SERVING if ready else Status.NOT_SERVING)

    async def watch(self, service: str) -> AsyncIterator[Any]:
        """Send the status, and each change of it, until the process accepts no more calls."""
        last: Any = None
        while not self._closing.is_set():
            try:
                status = self.check(service)
            except ModelNotFoundError:
                status = Status(status=Status.SERVICE_UNKNOWN)
            if status != last:
                yield status
            last = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), WATCH_SECONDS)


def reflect(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Answer reflection requests about the services and their messages."""
    names = (INFERENCE, HEALTH, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names, descriptor_pool.Default())
    answers: AsyncIterator[Any] = servicer.ServerReflectionInfo(requests, None)
    return answers


parse_check = health_pb2.HealthCheckRequest.FromString
parse_question = reflection_pb2.ServerReflectionRequest.FromString
