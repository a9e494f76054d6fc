"""Triton's model repository extension: what the folder of models holds, load, unload.

https://github.com/triton-inference-server/server, docs/protocol/extension_model_repository.md. The
admin key is asked for what changes something. A model comes from the folder as it lies there: a
request cannot bring a configuration or files.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from logitserve_service.api import protocol_schemas as schemas
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.payloads import read_body
from logitserve_service.api.schemas import problems
from logitserve_service.errors import UnusableRequestError
from logitserve_service.http.limits import RequestLimits
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.watcher import Watcher

RequireAdmin = Callable[[Request], Awaitable[None]]
"""Raises unless the request brings the admin key."""

_ORDER: dict[str, Any] = {
    "status_code": 200,
    "response_class": Response,
    "responses": {
        200: {"description": "done, in every worker", "content": {}},
        **problems(400, 401, 403, 404, 408, 413, 422, 504),
    },
    "openapi_extra": {"requestBody": schemas.ORDER_BODY},
}


def router(
    catalog: Catalog, watcher: Watcher, require_admin: RequireAdmin, limits: RequestLimits
) -> APIRouter:
    """`/v2/repository`."""
    routes = APIRouter(prefix="/v2/repository", tags=["model repository"])
    admin = [Depends(require_admin)]

    @routes.post(
        "/index",
        responses=problems(400, 408, 413, 422),
        openapi_extra={"requestBody": schemas.INDEX_BODY},
    )
    async def repository_index(request: Request) -> list[schemas.RepositoryIndexEntry]:
        """Every version in the folder of models; with `ready`, those that answer."""
        asked = _object(await read_body(request.receive), limits)
        only_ready = asked.get("ready")
        if not isinstance(only_ready, bool | None):
            raise UnusableRequestError('the JSON must be {} or {"ready": true or false}')
        return [
            schemas.RepositoryIndexEntry(
                name=name, version=state.version, state=state.state, reason=state.reason
            )
            for name, state in catalog.index(only_ready=bool(only_ready))
        ]

    @routes.post("/models/{name}/load", dependencies=admin, **_ORDER)
    async def load_model(request: Request, name: str) -> Response:
        """Load a model, or load it again, as it lies in the folder now."""
        parameters = _parameters(await read_body(request.receive), limits)
        if parameters:
            raise UnusableRequestError(
                f"parameters {sorted(parameters)} are not taken here: a model is loaded as it lies "
                "in the folder of models"
            )
        await watcher.load(name)
        return Response()

    @routes.post("/models/{name}/unload", dependencies=admin, **_ORDER)
    async def unload_model(request: Request, name: str) -> Response:
        """Unload a model, until it is loaded again; nothing depends on it, so nothing else goes."""
        parameters = _parameters(await read_body(request.receive), limits)
        if not parameters.keys() <= {"unload_dependents"}:
            raise UnusableRequestError(
                f"parameters {sorted(parameters)}: there is 'unload_dependents'"
            )
        await watcher.unload(name)
        return Response()

    return routes


def _object(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """The JSON object of a body, which may be empty."""
    document = read_json(body or b"{}", limits)
    if not isinstance(document, dict):
        raise UnusableRequestError("the JSON must be an object")
    return document


def _parameters(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    parameters = _object(body, limits).get("parameters")
    if not isinstance(parameters, dict | None):
        raise UnusableRequestError("'parameters' must be an object")
    return parameters or {}
