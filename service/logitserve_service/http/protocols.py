"""Metadata and status of models: Open Inference Protocol and TensorFlow Serving.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md;
https://www.tensorflow.org/tfx/serving/api_rest; KServe's V1 protocol extends it:
https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol.
"""

from importlib.metadata import version as version_of
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request

from logitserve_service.api import protocol_schemas as schemas
from logitserve_service.api import tensors, triton, v1
from logitserve_service.api.call import Limits
from logitserve_service.api.openapi import problems
from logitserve_service.http import routes
from logitserve_service.http.routes import ModelOfPath
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.metrics import Metrics

_DOCUMENTED: dict[str, Any] = {"responses": problems(404, 503)}


def v2_router(catalog: Catalog, limits: Limits, metrics: Metrics) -> APIRouter:
    """Make the routes `/v2` and below, except inference."""
    router = APIRouter(prefix="/v2", tags=["open inference protocol"])

    @router.get("")
    async def server_metadata() -> schemas.ServerMetadata:
        """Name, version and protocol extensions of the server."""
        return schemas.ServerMetadata(
            name="logitserve",
            version=version_of("logitserve"),
            extensions=[*tensors.EXTENSIONS, *triton.EXTENSIONS, tensors.MODEL_REPOSITORY],
        )

    @router.get("/models/stats")
    async def statistics() -> dict[str, Any]:
        """Statistics of all models (Triton)."""
        cards = [model.card for model in catalog.live.values()]
        return await to_thread.run_sync(triton.statistics, metrics, cards)

    async def model_metadata(model: ModelOfPath) -> schemas.ModelMetadata:
        """Inputs and outputs of a model. `image` can also be BYTES `[n]`, encoded images."""
        inputs, outputs = tensors.metadata(model.card)
        return schemas.ModelMetadata(
            name=model.card.name,
            versions=list(catalog.models[model.card.name]),
            platform=tensors.PLATFORM,
            inputs=[schemas.TensorMetadata(**tensor) for tensor in inputs],
            outputs=[schemas.TensorMetadata(**tensor) for tensor in outputs],
        )

    async def model_ready(model: ModelOfPath) -> schemas.ModelReady:
        """Whether a model can be used."""
        return schemas.ModelReady(name=model.card.name, ready=True)

    async def model_configuration(model: ModelOfPath) -> dict[str, Any]:
        """Configuration of a model (Triton)."""
        return triton.configuration(model.card, limits.images)

    async def model_statistics(model: ModelOfPath) -> dict[str, Any]:
        """Statistics of a model (Triton)."""
        return await to_thread.run_sync(triton.statistics, metrics, [model.card])

    routes.add(router, "/models/{name}", model_metadata, **_DOCUMENTED)
    routes.add(router, "/models/{name}/config", model_configuration, **_DOCUMENTED)
    routes.add(router, "/models/{name}/stats", model_statistics, **_DOCUMENTED)
    routes.add(router, "/models/{name}/ready", model_ready, **_DOCUMENTED)
    return router


def v1_router(catalog: Catalog) -> APIRouter:
    """Make the routes `/v1/models` and below, except inference."""
    router = APIRouter(prefix="/v1/models", tags=["tensorflow serving"])

    @router.get("")
    async def v1_models() -> schemas.V1Models:
        """List the served models."""
        return schemas.V1Models(models=list(catalog.live))

    async def v1_status(request: Request, model: ModelOfPath) -> schemas.ModelStatus:
        """Status of a model's versions, the latest first."""
        one = len(request.path_params) > 1
        versions = [model.card.version] if one else reversed(catalog.models[model.card.name])
        ok = {"error_code": "OK", "error_message": ""}
        return schemas.ModelStatus(
            name=model.card.name,
            ready=True,
            model_version_status=[
                schemas.VersionStatus(version=version, state="AVAILABLE", status=ok)
                for version in versions
            ],
        )

    async def v1_metadata(model: ModelOfPath) -> dict[str, Any]:
        """Signature of a model."""
        return v1.metadata(model.card)

    suffixes = ("", routes.VERSION, routes.LABEL)
    routes.add(router, "/{name}", v1_status, suffixes=suffixes, **_DOCUMENTED)
    routes.add(router, "/{name}/metadata", v1_metadata, suffixes=suffixes, **_DOCUMENTED)
    return router
