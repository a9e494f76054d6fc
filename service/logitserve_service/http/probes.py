"""Monitoring routes: liveness, readiness and start-up probes, and Prometheus metrics."""

import logging
from collections.abc import Callable
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Response

from logitserve_service.api.openapi import problems
from logitserve_service.api.protocol_schemas import ServerLive, ServerReady
from logitserve_service.api.schemas import Health
from logitserve_service.errors import NotReadyError
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.worker_gauges import WorkerGauges

LIVE = ("/livez", "/healthz")
READY = ("/readyz", "/health", "/startupz", "/ping")
"""Readiness paths: the first is documented, the others are those of other platforms."""
PROBES = frozenset({*LIVE, *READY, "/v2/health/live", "/v2/health/ready"})
METRICS = "/metrics"
GRPC_PROBES = frozenset({"ServerLive", "ServerReady", "Check"})
"""gRPC methods that are probes."""
UNLIMITED = PROBES | {METRICS}
"""Paths exempt from the limits on connections and deadlines, as overload is when they are
needed."""
METRICS_EXAMPLE = 'logitserve_requests_total{model="digits",route="/predict",status="200"} 7.0\n'

logger = logging.getLogger("logitserve.readiness")


class Readiness:
    """Readiness: a model is loaded, and the process is not stopping."""

    def __init__(self, catalog: Catalog, stopping: Callable[[], bool]) -> None:
        self._catalog = catalog
        self._stopping = stopping
        self._logged = ""

    @property
    def ready(self) -> bool:
        """Whether the process is ready."""
        return not self._reason

    @property
    def _reason(self) -> str:
        """Return why the process is not ready; empty if it is."""
        if self._stopping():
            return "the service is stopping"
        return "" if self._catalog.ready else "no model is loaded"

    def check(self) -> None:
        """Raise NotReadyError if the process is not ready."""
        if reason := self._reason:
            raise NotReadyError(reason)

    def log(self) -> None:
        """Log a change of readiness since the last call."""
        before, self._logged = self._logged, self._reason
        if before != self._logged:
            text = f"not ready: {self._logged}" if self._logged else "ready again"
            logger.log(logging.WARNING if self._logged else logging.INFO, text)


def router(readiness: Readiness) -> APIRouter:
    """Make the routes of the probes."""
    routes = APIRouter(tags=["probes"])

    async def live() -> Health:
        """Liveness: the process responds."""
        return Health(status="ok")

    async def ready() -> Health:
        """Readiness: every model is loaded and verified, and the process is not stopping."""
        readiness.check()
        return Health(status="ok")

    for path in LIVE:
        routes.get(path, include_in_schema=path == LIVE[0])(live)
    for path in READY:
        routes.get(path, responses=problems(503), include_in_schema=path == READY[0])(ready)

    @routes.get("/v2/health/live")
    async def server_live() -> ServerLive:
        """Liveness (Open Inference Protocol)."""
        return ServerLive(live=True)

    @routes.get("/v2/health/ready", responses=problems(503))
    async def server_ready() -> ServerReady:
        """Readiness (Open Inference Protocol)."""
        readiness.check()
        return ServerReady(ready=True)

    return routes


def metrics_router(metrics: Metrics, gauges: WorkerGauges) -> APIRouter:
    """Make the route of the metrics."""
    routes = APIRouter(tags=["metrics"])
    text = {"schema": {"type": "string"}, "example": METRICS_EXAMPLE}

    @routes.get(
        METRICS,
        response_class=Response,
        responses={200: {"content": {"text/plain": text, "application/openmetrics-text": text}}},
    )
    async def metrics_text(accept: Annotated[str, Header()] = "") -> Response:
        """Metrics of all workers, in the Prometheus text format or as OpenMetrics."""
        gauges.sample()
        # Merging is slow; in a thread it does not delay responses.
        body, content_type = await to_thread.run_sync(metrics.exposition, accept)
        return Response(body, headers={"Content-Type": content_type})

    return routes
