"""`/models`: the models, their cards and reports."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.repository import REPORT_FOLDER, REPORT_PAGE
from logitserve_service.api import schemas
from logitserve_service.api.openapi import problems
from logitserve_service.http import routes
from logitserve_service.http.page import PAGE_HEADERS
from logitserve_service.http.routes import ModelOfPath
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loaded_model import LoadedModel

REPORT_HEADERS = PAGE_HEADERS | {
    # A report has no scripts and loads nothing. Its charts are SVG with inline styles.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}


def router(catalog: Catalog) -> APIRouter:
    """Make the routes `GET /models` and below."""
    router = APIRouter(prefix="/models", tags=["models"])

    def common(model: LoadedModel) -> dict[str, Any]:
        name = model.card.name
        return {
            "name": name,
            "default": name == catalog.default,
            "version": model.card.version,
            "versions": list(catalog.models[name]),
            "folder": folder(name),
        }

    def folder(name: str) -> list[schemas.ModelVersionState]:
        states = catalog.folder[name].states.values()
        return [
            schemas.ModelVersionState.model_validate(state, from_attributes=True)
            for state in states
        ]

    def summary(model: LoadedModel) -> schemas.ModelSummary:
        card = model.card
        described = {
            "description": card.description,
            "head": card.head,
            "labels": list(card.labels),
        }
        return schemas.ModelSummary(**common(model), **described)

    @router.get("")
    async def list_models() -> schemas.ModelList:
        """List the served models, and those in the folder that cannot be served."""
        models = [summary(model) for model in catalog.live.values()]
        missing = [name for name in catalog.folder if name not in catalog.live]
        unavailable = [schemas.UnavailableModel(name=name, folder=folder(name)) for name in missing]
        return schemas.ModelList(models=models, unavailable=unavailable)

    async def show_model(request: Request, model: ModelOfPath) -> schemas.ModelDetail:
        """Return a model and its card. `report` is relative to the requested URL."""
        card = model.card
        report = None
        if _report(model):
            report = f"{card.version}/report"
            if "version" not in request.path_params:
                report = f"{card.name}/versions/{report}"
        return schemas.ModelDetail.served(card, **common(model), report=report)

    async def show_report(model: ModelOfPath) -> FileResponse:
        """Return the report of a model, an HTML page."""
        page = _report(model)
        if page is None:
            raise ModelNotFoundError(
                f"model {model.card.name!r} version {model.card.version} has no report; "
                "`logitserve calibrate` writes one"
            )
        return FileResponse(page, media_type="text/html", headers=REPORT_HEADERS)

    documented: dict[str, Any] = {"responses": problems(404, 503)}
    routes.add(router, "/{name}", show_model, **documented)
    routes.add(router, "/{name}/report", show_report, response_class=FileResponse, **documented)
    return router


def _report(model: LoadedModel) -> Path | None:
    if model.predictor.path is None:
        return None
    page = model.predictor.path.parent / REPORT_FOLDER / REPORT_PAGE
    return page if page.is_file() else None
