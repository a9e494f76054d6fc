"""Probes: is the process alive, may it be sent requests, has it started."""

from fastapi import APIRouter

from service.catalog import Catalog
from service.errors import NotReadyError
from service.schemas import Health, problems


def router(catalog: Catalog) -> APIRouter:
    """The probes, each with the other name that platforms ask for."""
    routes = APIRouter(tags=["probes"])

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
        if not catalog.ready:
            raise NotReadyError("no model is loaded")
        return Health(status="ok")

    return routes
