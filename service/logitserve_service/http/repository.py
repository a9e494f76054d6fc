"""Triton's model repository extension: index, load and unload.

https://github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md.
Load and unload need the admin key. Models come from the folder; a request cannot contain a
configuration or files.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from logitserve.inference.naming import unknown
from logitserve_service.api.call import Limits
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.openapi import INDEX_BODY, ORDER_BODY, problems
from logitserve_service.api.protocol_schemas import RepositoryIndexEntry
from logitserve_service.errors import UnusableRequestError
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.watcher import Watcher

RequireAdmin = Callable[[Request], Awaitable[None]]
"""Raises an error unless the request has the admin key."""

_CHANGE: dict[str, Any] = {
    "status_code": 200,
    "response_class": Response,
    "responses": {
        200: {"description": "done in every worker", "content": {}},
        **problems(400, 401, 403, 404, 408, 413, 422, 504),
    },
    "openapi_extra": ORDER_BODY,
}


def router(
    catalog: Catalog, watcher: Watcher, require_admin: RequireAdmin, limits: Limits
) -> APIRouter:
    """Make the routes of `/v2/repository`."""
    routes = APIRouter(prefix="/v2/repository", tags=["model repository"])
    admin = [Depends(require_admin)]

    @routes.post("/index", responses=problems(400, 408, 413, 422), openapi_extra=INDEX_BODY)
    async def repository_index(request: Request) -> list[RepositoryIndexEntry]:
        """List every version in the folder of models; with `ready`, only served versions."""
        only_ready = (await members(request, limits, "ready")).get("ready")
        if not isinstance(only_ready, bool | None):
            raise UnusableRequestError('the JSON must be {} or {"ready": true or false}')
        index = catalog.index(only_ready=bool(only_ready))
        return [
            RepositoryIndexEntry(name=name, version=of.version, state=of.state, reason=of.reason)
            for name, of in index
        ]

    @routes.post("/models/{name}/load", dependencies=admin, **_CHANGE)
    async def load_model(request: Request, name: str) -> Response:
        """Load a model, or reload it, from its current files."""
        await _check_parameters(request, limits)
        await watcher.load(name)
        return Response()

    @routes.post("/models/{name}/unload", dependencies=admin, **_CHANGE)
    async def unload_model(request: Request, name: str) -> Response:
        """Unload a model until it is loaded by request."""
        await _check_parameters(request, limits, "unload_dependents")
        await watcher.unload(name)
        return Response()

    return routes


async def members(request: Request, limits: Limits, *known: str) -> dict[str, Any]:
    """Parse the body, a JSON object or empty; return its members."""
    document = read_json(await request.body() or b"{}", limits)
    if not isinstance(document, dict):
        raise UnusableRequestError("the JSON must be an object")
    for name in document.keys() - set(known):
        raise UnusableRequestError(unknown("member", name, known))
    return document


async def _check_parameters(request: Request, limits: Limits, *known: str) -> None:
    given = (await members(request, limits, "parameters")).get("parameters")
    if not isinstance(given, dict | None):
        raise UnusableRequestError("'parameters' must be an object")
    for name in (given or {}).keys() - set(known):
        raise UnusableRequestError(
            f"{unknown('parameter', name, known)}; the files alone determine a model"
        )
