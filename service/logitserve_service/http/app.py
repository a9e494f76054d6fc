"""Build the FastAPI application: documents, management and the page."""

from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from logitserve.inference.errors import InferenceError
from logitserve.inference.naming import LONGEST_NAME, closest, unknown
from logitserve_service.api.call import Limits
from logitserve_service.errors import MethodNotAllowedError, ServiceError, UnusableRequestError
from logitserve_service.execution.explainer import Start
from logitserve_service.http import (
    documentation,
    drift,
    explain,
    models,
    page,
    preview,
    probes,
    problems,
    protocols,
    quality,
    repository,
    rollout,
)
from logitserve_service.http.auth import OPEN_PATHS, Authenticator
from logitserve_service.http.messages import pairs
from logitserve_service.http.probes import Readiness
from logitserve_service.http.quality import StoreAccess
from logitserve_service.http.routes import TEMPLATES
from logitserve_service.monitoring.drift import Drift
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.watcher import Watcher
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.worker_gauges import WorkerGauges


@dataclass(frozen=True, slots=True)
class Parts:
    """Dependencies of the routes."""

    catalog: Catalog
    readiness: Readiness
    authenticator: Authenticator
    watcher: Watcher
    metrics: Metrics
    gauges: WorkerGauges
    limits: Limits
    drift: Drift | None
    """None if drift detection is off."""
    kept: StoreAccess | None
    start_explainer: Start


def create_documents(parts: Parts) -> FastAPI:
    """Build the application; its OpenAPI document describes every route."""
    # FastAPI's own /docs loads scripts from another host; FastAPIOffline serves them itself.
    app = FastAPIOffline(
        title="logitserve",
        version=version("logitserve"),
        description="Class probabilities from networks that end in logits.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lose the path prefix of a proxy
        servers=[{"url": "."}],  # relative to this document, so that a proxy can add a prefix
        dependencies=[Depends(_known_query)],
        generate_unique_id_function=lambda route: route.name,
        # OpenTelemetry's hooks cost time in each request, even without a listener.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.catalog = catalog = parts.catalog
    app.state.kept = parts.kept
    for error in (InferenceError, ServiceError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(error, _on_error)
    orders = (catalog, parts.watcher, parts.authenticator.require_admin, parts.limits)
    explaining = explain.Explaining(catalog.loader, parts.metrics, parts.start_explainer)
    routers = (
        protocols.v2_router(catalog, parts.limits, parts.metrics),
        protocols.v1_router(catalog),
        models.router(catalog),
        drift.router(parts.drift, parts.authenticator.require_admin, parts.limits),
        probes.router(parts.readiness),
        preview.router(parts.limits),
        explain.router(explaining, parts.limits),
        page.router(),
        documentation.router(app.title),
        probes.metrics_router(parts.metrics, parts.gauges),
        repository.router(*orders),
        rollout.router(*orders),
        quality.router(catalog, *orders[2:], parts.metrics),
    )
    for router in routers:
        app.include_router(router)
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
    paths = [template for _, template in TEMPLATES] + [route.path for route in routes]
    app.state.routes = routes
    app.state.paths = [path.removeprefix("/") for path in paths]
    documentation.complete(app, OPEN_PATHS, keys=parts.authenticator.required)
    return app


def _not_allowed(request: Request) -> MethodNotAllowedError:
    """Return the error with the methods of all routes of the path, not only of the first."""
    allowed: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            allowed |= route.methods
    if "GET" in allowed:
        allowed.add("HEAD")
    return MethodNotAllowedError(request.method, ", ".join(sorted(allowed)))


def _detail(request: Request, error: HTTPException) -> str:
    """Return the detail of a router's error; a 404 names the path and the nearest route."""
    if error.status_code == HTTPStatus.NOT_FOUND and error.detail == HTTPStatus.NOT_FOUND.phrase:
        path = request.url.path.removeprefix("/")[:LONGEST_NAME]
        match = closest(path, request.app.state.paths)
        suggestion = "" if match is None else f" did you mean {match!r}?"
        return f"no route {path!r};{suggestion} {request.base_url}docs lists the routes"
    return str(error.detail)


async def _known_query(request: Request) -> None:
    """Raise UnusableRequestError for unknown query parameters."""
    route = request.scope.get("route")
    if isinstance(route, APIRoute) and route.include_in_schema:
        known = [parameter.alias for parameter in route.dependant.query_params]
        for name in request.query_params.keys() - set(known):
            raise UnusableRequestError(unknown("query parameter", name, known))


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = _not_allowed(request)
    if isinstance(error, HTTPException):
        detail = problems.fit_to_send(_detail(request, error))
        response = problems.problem(error.status_code, detail, error.headers)
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        detail = problems.fit_to_send(f"{' '.join(map(str, first['loc']))}: {first['msg']}")
        response = problems.problem(422, detail)
    else:
        response = problems.of_error(error)
    sent = Response(response.body, response.status)
    sent.raw_headers = pairs(response.head)
    return sent
