"""`/models/{name}/rollout`: which versions of a model answer. Changes need the admin key."""

from typing import Any

from fastapi import APIRouter, Depends, Request

from logitserve.inference import rollout as rollouts
from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.naming import absent
from logitserve.inference.rollout import Rollout
from logitserve_service.api.call import Limits
from logitserve_service.api.openapi import ROLLOUT_BODY, problems
from logitserve_service.errors import UnusableRequestError
from logitserve_service.http.repository import RequireAdmin, members
from logitserve_service.repository.catalog import NO_ROLLOUT, Catalog
from logitserve_service.repository.watcher import Watcher

_CHANGE: dict[str, Any] = {"responses": problems(400, 401, 403, 404, 408, 413, 422, 504)}


def router(
    catalog: Catalog, watcher: Watcher, require_admin: RequireAdmin, limits: Limits
) -> APIRouter:
    """`GET` and `PUT /models/{name}/rollout`, and `POST /models/{name}/rollback`."""
    routes = APIRouter(prefix="/models/{name}", tags=["models"])
    admin = [Depends(require_admin)]

    def in_force(name: str) -> Rollout:
        if name not in catalog.folder:
            raise ModelNotFoundError(absent("model", name, catalog.folder))
        return catalog.rollouts.get(name, NO_ROLLOUT)

    async def change(name: str, **changes: Any) -> Rollout:
        answers = catalog.find(name).card.version
        made = in_force(name).changed("request", answers, **changes)
        rollouts.check(made, list(catalog.folder[name].states))
        await watcher.roll_out(name, made)
        return made

    @routes.get("/rollout", responses=problems(404))
    async def show_rollout(name: str) -> Rollout:
        """Which versions of a model answer, and which did before."""
        return in_force(name)

    @routes.put("/rollout", dependencies=admin, openapi_extra=ROLLOUT_BODY, **_CHANGE)
    async def change_rollout(request: Request, name: str) -> Rollout:
        """Change which versions answer, in every worker; what the body does not name stays."""
        changes = await members(request, limits, "live", "canary", "shadow")
        if not changes:
            raise UnusableRequestError("the JSON must have 'live', 'canary' or 'shadow'")
        return await change(name, **changes)

    @routes.post("/rollback", dependencies=admin, **_CHANGE)
    async def roll_back(request: Request, name: str) -> Rollout:
        """Let the version answer that did before, in every worker; a canary and a shadow end."""
        await members(request, limits)
        before = in_force(name).before(list(catalog.folder[name].states))
        return await change(name, live=before, canary=None, shadow=None)

    return routes
