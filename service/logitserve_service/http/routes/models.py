"""What is served: the list of models, and their cards."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from logitserve.inference.card import ModelCard
from logitserve.inference.errors import ModelNotFoundError
from logitserve.inference.repository import REPORT_FOLDER, REPORT_PAGE
from logitserve_service.api.schemas import (
    ModelDetail,
    ModelList,
    ModelSummary,
    ModelVersionState,
    UnavailableModel,
    problems,
)
from logitserve_service.execution.batcher import Batcher
from logitserve_service.http.headers import PAGE_HEADERS
from logitserve_service.repository.catalog import Catalog
from logitserve_service.repository.loader import Model

REPORT_HEADERS = PAGE_HEADERS | {
    # A report is a page of its own: it loads nothing, runs nothing, and is nobody's frame. Its
    # charts are SVG, with styles in their elements.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}


def router(catalog: Catalog) -> APIRouter:
    """`GET /models` and below."""
    routes = APIRouter(prefix="/models", tags=["models"])

    def detail(model: Batcher) -> ModelDetail:
        card = model.card
        return ModelDetail.served(
            card,
            name=card.name,
            default=card.name == catalog.default,
            version=card.version,
            versions=list(catalog.models[card.name]),
            report=None if _report(model) is None else f"{_path(card)}/report",
            folder=_folder(catalog.folder[card.name]),
        )

    def summary(model: Batcher) -> ModelSummary:
        card = model.card
        return ModelSummary(
            name=card.name,
            default=card.name == catalog.default,
            version=card.version,
            versions=list(catalog.models[card.name]),
            description=card.description,
            head=card.head,
            labels=list(card.labels),
            folder=_folder(catalog.folder[card.name]),
        )

    def report_of(model: Batcher) -> FileResponse:
        page = _report(model)
        if page is None:
            raise ModelNotFoundError(
                f"model {model.card.name!r} version {model.card.version} has no report; "
                "`logitserve calibrate` writes one"
            )
        return FileResponse(page, media_type="text/html", headers=REPORT_HEADERS)

    @routes.get("")
    async def list_models() -> ModelList:
        """The models that are served, and those in the folder that cannot be."""
        return ModelList(
            models=[summary(catalog.find(name)) for name in catalog.models],
            unavailable=[
                UnavailableModel(name=name, folder=_folder(model))
                for name, model in catalog.folder.items()
                if name not in catalog.models
            ],
        )

    @routes.get("/{name}", responses=problems(404, 503))
    async def show_model(name: str) -> ModelDetail:
        """A model and the card of its latest version."""
        return detail(catalog.find(name))

    @routes.get("/{name}/versions/{version}", responses=problems(404, 503))
    async def show_version(name: str, version: str) -> ModelDetail:
        """A model and the card of one version."""
        return detail(catalog.find(name, version))

    @routes.get("/{name}/report", response_class=FileResponse, responses=problems(404, 503))
    async def show_report(name: str) -> FileResponse:
        """The report of a model's latest version, a page to look at."""
        return report_of(catalog.find(name))

    @routes.get(
        "/{name}/versions/{version}/report",
        response_class=FileResponse,
        responses=problems(404, 503),
    )
    async def show_version_report(name: str, version: str) -> FileResponse:
        """The report of one version of a model, a page to look at."""
        return report_of(catalog.find(name, version))

    return routes


def _path(card: ModelCard) -> str:
    return f"/models/{card.name}/versions/{card.version}"


def _folder(model: Model) -> list[ModelVersionState]:
    return [
        ModelVersionState(
            version=state.version, state=state.state, reason=state.reason, sha256=state.sha256
        )
        for state in model.states.values()
    ]


def _report(model: Batcher) -> Path | None:
    if model.model.path is None:
        return None
    page = model.model.path.parent / REPORT_FOLDER / REPORT_PAGE
    return page if page.is_file() else None
