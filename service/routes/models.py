"""What is served: the list of models, and their cards."""

from fastapi import APIRouter

from service.batcher import Batcher
from service.catalog import Catalog
from service.schemas import ModelDetail, ModelList, ModelSummary, ServedCard, problems


def router(catalog: Catalog) -> APIRouter:
    """`GET /models` and below."""
    routes = APIRouter(prefix="/models", tags=["models"])

    def detail(model: Batcher) -> ModelDetail:
        card = model.card
        return ModelDetail(
            name=card.name,
            default=card.name == catalog.default,
            version=card.version,
            versions=list(catalog.models[card.name]),
            card=ServedCard.model_construct(**dict(card)),
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
        )

    @routes.get("")
    async def list_models() -> ModelList:
        """The models that are served."""
        return ModelList(models=[summary(catalog.find(name)) for name in catalog.models])

    @routes.get("/{name}", responses=problems(404))
    async def show_model(name: str) -> ModelDetail:
        """A model and the card of its latest version."""
        return detail(catalog.find(name))

    @routes.get("/{name}/versions/{version}", responses=problems(404))
    async def show_version(name: str, version: str) -> ModelDetail:
        """A model and the card of one version."""
        return detail(catalog.find(name, version))

    return routes
