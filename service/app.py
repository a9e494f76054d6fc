"""Builds the app from what it is handed."""

from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from service import cors, problems
from service.access_log import AccessLog
from service.catalog import Catalog
from service.classify import Classifier
from service.connections import Connections
from service.coordination import Coordination
from service.deadlines import Deadlines
from service.direct import Direct
from service.drain import Drain
from service.front import Front
from service.lifespan import Beside, Lifespan
from service.limits import Bodies, RequestLimits
from service.metrics import Metrics
from service.observation import Observation
from service.readiness import Readiness
from service.routes import (
    documentation,
    health,
    models,
    page,
    predict,
    preview,
    repository,
    tensorflow_serving,
    v2,
)
from service.routes import metrics as metrics_route
from service.security import Guard
from service.settings import Settings
from service.telemetry import RequestIds
from service.tracing import tracing
from service.vitals import Vitals
from service.watching import Watcher

DESCRIPTION = "Class probabilities from networks that end in logits."


def create_app(
    settings: Settings,
    catalog: Catalog,
    *,
    shared: Path,
    drain: Drain,
    connections: Connections,
) -> ASGIApp:
    """The service over the models of a catalog.

    Args:
        settings: of the service.
        catalog: the live models.
        shared: a folder that the workers of this service share; it goes when the service ends.
        drain: of the process.
        connections: of the process.
    """
    guard = Guard.of(settings)
    bodies = Bodies(max_bytes=settings.max_body_bytes, max_total_bytes=settings.max_buffered_bytes)
    readiness = Readiness(catalog, drain)
    metrics = Metrics(shared)
    catalog.observe(metrics.model)
    connections.on_refusal = metrics.refused
    vitals = Vitals(metrics, catalog, readiness, connections)
    access_log = AccessLog.of(settings) if settings.access_log else None
    tracer = tracing()
    observation = Observation(metrics, catalog, access_log=access_log, tracing=tracer)
    classifier = Classifier(max_pixels=settings.max_pixels)
    watcher = Watcher(catalog, Coordination(shared), watch_seconds=settings.watch_seconds)
    beside: list[Beside] = [vitals.running, watcher.running]
    if access_log is not None:
        beside.append(access_log.running)
    if tracer is not None:
        beside.append(tracer.running)
    if settings.grpc_port is not None:
        from service.rpc.server import GrpcServer  # needs an extra

        beside.append(
            GrpcServer(
                settings,
                catalog,
                classifier,
                metrics=metrics,
                readiness=readiness,
                drain=drain,
                guard=guard,
            ).running
        )
    routes = create_routes(settings, catalog, classifier, readiness)
    routes.include_router(metrics_route.router(metrics, vitals))
    routes.include_router(
        repository.router(catalog, watcher, guard.require_admin, RequestLimits.of(settings))
    )
    if guard.asks_keys:
        documentation.describe_keys(routes)
    deadlines = Deadlines(settings.request_timeout_ms)
    request_ids = RequestIds()
    connections.direct = Direct(
        catalog=catalog,
        classifier=classifier,
        observation=observation,
        guard=guard,
        bodies=bodies,
        deadlines=deadlines,
        request_ids=request_ids,
        reads_forwarded=settings.access_log,
    )
    front = Front(
        routes,
        lifespan=Lifespan(beside),
        catalog=catalog,
        classifier=classifier,
        observation=observation,
        guard=guard,
        bodies=bodies,
        deadlines=deadlines,
        request_ids=request_ids,
    )
    return cors.allowing(cors.parse_origins(settings.cors_origins), front)


def create_routes(
    settings: Settings, catalog: Catalog, classifier: Classifier, readiness: Readiness
) -> FastAPI:
    """Every route, documented."""
    # FastAPI's own /docs loads its scripts from another host; this one brings them along.
    app = FastAPIOffline(
        title="logitserve",
        version=version("logitserve"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        # OpenTelemetry's hooks cost time in each request, also where nothing listens to them.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    limits = RequestLimits.of(settings)
    for protocol in (predict, v2, tensorflow_serving):
        router = protocol.router(catalog, classifier, limits)
        app.include_router(router)
    app.include_router(models.router(catalog))
    app.include_router(health.router(readiness))
    app.include_router(preview.router(catalog, classifier, limits))
    app.include_router(page.router())
    app.include_router(documentation.router(app.title))
    return app
