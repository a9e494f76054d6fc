"""`/models/{name}/rollout`: live, canary and shadow versions. Changes need the admin key."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request

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
    """Make the routes `/models/{name}/rollout` and `/models/{name}/rollback`."""
    routes = APIRouter(prefix="/models/{name}", tags=["models"])
    admin = [Depends(require_admin)]

    def answering(name: str) -> str:
        return catalog.find(name).card.version

    @routes.get("/rollout", responses=problems(404))
    async def show_rollout(name: str) -> Rollout:
        """Live, canary and shadow versions of a model, and the previous live version."""
        if name not in catalog.folder:
            raise ModelNotFoundError(absent("model", name, catalog.folder))
        return catalog.rollouts.get(name, NO_ROLLOUT)

    @routes.put("/rollout", dependencies=admin, openapi_extra=ROLLOUT_BODY, **_CHANGE)
    async def change_rollout(request: Request, name: str) -> Rollout:
        """Change the rollout in every worker; members that the body omits stay unchanged."""
        changes = await members(request, limits, "live", "canary", "shadow")
        if not changes:
            raise UnusableRequestError("the JSON must have 'live', 'canary' or 'shadow'")

        def change(rollout: Rollout, _: Sequence[str]) -> Rollout:
            return rollout.changed("request", answering(name), **changes)

        return await watcher.roll_out(name, change)

    @routes.post("/rollback", dependencies=admin, **_CHANGE)
    async def roll_back(request: Request, name: str) -> Rollout:
        """Make the previous version live in every worker; canary and shadow end."""
        await members(request, limits)

        def change(rollout: Rollout, versions: Sequence[str]) -> Rollout:
            live = rollout.before(versions)
            return rollout.changed("request", answering(name), live=live, canary=None, shadow=None)

        return await watcher.roll_out(name, change)

    return routes
