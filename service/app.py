"""Builds the app from what it is handed."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp

from service import problems
from service.catalog import Catalog
from service.classify import Classifier
from service.limits import BodyLimit
from service.routes import health, models, predict
from service.settings import Settings
from service.short_path import ShortPath
from service.telemetry import RequestId

DESCRIPTION = "Class probabilities from networks that end in logits."


def create_app(settings: Settings, catalog: Catalog) -> ASGIApp:
    """The service over the models of a catalog: what every request passes, from the outside in."""
    classifier = Classifier(max_pixels=settings.max_pixels)
    routes = create_routes(settings, catalog, classifier)
    short_path = ShortPath(routes, catalog=catalog, classifier=classifier)
    limited = BodyLimit(short_path, max_bytes=settings.max_body_bytes)
    return RequestId(limited)


def create_routes(settings: Settings, catalog: Catalog, classifier: Classifier) -> FastAPI:
    """Every route, documented."""
    # FastAPI's own /docs loads its scripts from another host; this one brings them along.
    app = FastAPIOffline(
        title="logitserve",
        version=version("logitserve"),
        description=DESCRIPTION,
        redoc_url=None,
        # OpenTelemetry's hooks cost time in each request, also where nothing listens to them.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    problems.install(app)
    app.include_router(predict.router(catalog, classifier, max_pictures=settings.max_pictures))
    app.include_router(models.router(catalog))
    app.include_router(health.router(catalog))

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app
