"""`GET /metrics`: what the service counts, for Prometheus."""

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Response

from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.worker_gauges import Vitals

EXAMPLE = 'logitserve_requests_total{model="digits",route="/predict",status="200"} 7.0\n'


def router(metrics: Metrics, vitals: Vitals) -> APIRouter:
    """`GET /metrics`."""
    routes = APIRouter(tags=["metrics"])
    text = {"schema": {"type": "string"}, "example": EXAMPLE}

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": text, "application/openmetrics-text": text}}},
    )
    async def show(accept: Annotated[str, Header()] = "") -> Response:
        """What all workers counted, as Prometheus reads it, or as OpenMetrics."""
        vitals.sample()
        # Merging takes as long as many answers; a thread lets those go on meanwhile.
        body, content_type = await to_thread.run_sync(metrics.exposition, accept)
        return Response(body, headers={"Content-Type": content_type})

    return routes
