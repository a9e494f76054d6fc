"""Probes: is the process alive, may it be sent requests, has it started."""

from fastapi import APIRouter

from logitserve_service.api.protocol_schemas import ServerLive, ServerReady
from logitserve_service.api.schemas import Health, problems
from logitserve_service.repository.readiness import Readiness

PROBES = frozenset(
    {
        *("/livez", "/healthz", "/readyz", "/health", "/startupz", "/ping"),
        *("/v2/health/live", "/v2/health/ready"),
    }
)
"""Paths of all probes."""


def router(readiness: Readiness) -> APIRouter:
    """The probes, each with the other names that platforms ask for."""
    routes = APIRouter(tags=["probes"])
    _add_open_inference(routes, readiness)

    @routes.get("/livez")
    @routes.get("/healthz", include_in_schema=False)
    async def live() -> Health:
        """Whether the process answers at all."""
        return Health(status="ok")

    @routes.get("/readyz", responses=problems(503))
    @routes.get("/health", include_in_schema=False)
    @routes.get("/startupz", responses=problems(503))
    @routes.get("/ping", include_in_schema=False)
    async def ready() -> Health:
        """Whether every model is loaded and proven, so that requests may come."""
        readiness.check()
        return Health(status="ok")

    return routes


def _add_open_inference(routes: APIRouter, readiness: Readiness) -> None:
    @routes.get("/v2/health/live")
    async def server_live() -> ServerLive:
        """Whether the process answers at all (Open Inference Protocol)."""
        return ServerLive(live=True)

    @routes.get("/v2/health/ready", responses=problems(503))
    async def server_ready() -> ServerReady:
        """Whether every model is loaded and proven (Open Inference Protocol)."""
        readiness.check()
        return ServerReady(ready=True)
