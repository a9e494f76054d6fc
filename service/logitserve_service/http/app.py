"""Builds the app from what it is handed."""

from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from logitserve_service.config.settings import Settings
from logitserve_service.execution.classify import Classifier
from logitserve_service.http import cors, problems
from logitserve_service.http.auth import Guard
from logitserve_service.http.deadlines import Deadlines
from logitserve_service.http.direct import Direct
from logitserve_service.http.front import Front
from logitserve_service.http.lifespan import Beside, Lifespan
from logitserve_service.http.limits import Bodies, RequestLimits
from logitserve_service.http.routes import (
    documentation,
    models,
    page,
    predict,
    preview,
    probes,
    repository,
    tensorflow_serving,
    v2,
)
from logitserve_service.http.routes import metrics as metrics_route
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.readiness import Readiness
from logitserve_service.repository.shared_state import Coordination
from logitserve_service.repository.watcher import Watcher
from logitserve_service.server.connections import Connections
from logitserve_service.server.drain import Drain
from logitserve_service.telemetry.access_log import AccessLog
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.recorder import Observation
from logitserve_service.telemetry.request_ids import RequestIds
from logitserve_service.telemetry.tracing import tracing
from logitserve_service.telemetry.worker_gauges import Vitals

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
        from logitserve_service.server.grpc.server import GrpcServer  # needs an extra

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
    app.include_router(probes.router(readiness))
    app.include_router(preview.router(catalog, classifier, limits))
    app.include_router(page.router())
    app.include_router(documentation.router(app.title))
    return app
