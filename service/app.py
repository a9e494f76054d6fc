"""Builds the app from what it is handed."""

from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.responses import RedirectResponse

from service import problems
from service.catalog import Catalog
from service.classify import Classifier
from service.limits import BodyLimit
from service.routes import health, models, predict
from service.settings import Settings
from service.telemetry import RequestId

DESCRIPTION = "Class probabilities from networks that end in logits."


def create_app(settings: Settings, catalog: Catalog) -> FastAPI:
    """The service over the models of a catalog."""
    # FastAPI's own /docs loads its scripts from another host; this one brings them along.
    app = FastAPIOffline(
        title="logitserve",
        version=version("logitserve"),
        description=DESCRIPTION,
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestId)
    classifier = Classifier(max_pixels=settings.max_pixels)
    app.include_router(predict.router(catalog, classifier, max_pictures=settings.max_pictures))
    app.include_router(models.router(catalog))
    app.include_router(health.router(catalog))

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app
