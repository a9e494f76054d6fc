"""The Open Inference Protocol, version 2, over REST.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md. What
clients of Triton, KServe and MLServer send is answered as those would. No content type is asked
for, as some of these clients send none: the header `Inference-Header-Content-Length` alone says
whether binary data follow the JSON.
"""

from importlib.metadata import version as version_of
from typing import Any

from fastapi import APIRouter, Request, Response

from logitserve_service.api import protocol_schemas as schemas
from logitserve_service.api.payloads import departure, read_body
from logitserve_service.api.schemas import problems
from logitserve_service.api.tensors import (
    EXTENSIONS,
    MODEL_REPOSITORY,
    PLATFORM,
    answered,
    infer,
    metadata,
)
from logitserve_service.api.v2 import HEADER_LENGTH, parse, rendered
from logitserve_service.errors import UnsupportedMediaTypeError
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.classify import Classifier
from logitserve_service.http.limits import RequestLimits
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.request_ids import server_timing


def router(catalog: Catalog, classifier: Classifier, limits: RequestLimits) -> APIRouter:
    """`/v2` and below."""
    routes = APIRouter(prefix="/v2", tags=["open inference protocol"])
    _add_server(routes)
    _add_models(routes, catalog)
    documented: dict[str, Any] = {
        "response_model": schemas.InferResponse,
        "openapi_extra": schemas.INFER_BODY,
        "responses": problems(400, 404, 408, 413, 415, 422, 429, 503, 504),
    }

    async def respond(request: Request, model: Batcher) -> Response:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise UnsupportedMediaTypeError(
                f"content encoding {encoding!r} is not read here; send the body as it is"
            )
        asked = parse(
            model.card,
            await read_body(request.receive),
            request.headers.get(HEADER_LENGTH),
            limits,
        )
        predictions, timing = await infer(
            classifier, model, asked.pictures, departure(request.receive)
        )
        body, headers = rendered(
            model.card, asked, answered(model.card, predictions, asked.outputs)
        )
        response = Response(body)
        response.raw_headers = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"server-timing", server_timing(timing)),
        ]
        return response

    @routes.post("/models/{name}/infer", **documented)
    async def infer_by_name(request: Request, name: str) -> Response:
        """Ask the latest version of a model about a tensor."""
        return await respond(request, catalog.find(name))

    @routes.post("/models/{name}/versions/{version}/infer", **documented)
    async def infer_by_version(request: Request, name: str, version: str) -> Response:
        """Ask one version of a model about a tensor."""
        return await respond(request, catalog.find(name, version))

    return routes


def _add_server(routes: APIRouter) -> None:
    """The server itself."""

    @routes.get("")
    async def server_metadata() -> schemas.ServerMetadata:
        """What the server is, and which extensions of the protocol it has."""
        return schemas.ServerMetadata(
            name="logitserve",
            version=version_of("logitserve"),
            extensions=[*EXTENSIONS, MODEL_REPOSITORY],
        )


def _add_models(routes: APIRouter, catalog: Catalog) -> None:
    """One model: what its tensors are, and whether it may be asked."""

    def described(model: Batcher) -> schemas.ModelMetadata:
        inputs, outputs = metadata(model.card)
        return schemas.ModelMetadata(
            name=model.card.name,
            versions=list(catalog.models[model.card.name]),
            platform=PLATFORM,
            inputs=[schemas.TensorMetadata(**tensor) for tensor in inputs],
            outputs=[schemas.TensorMetadata(**tensor) for tensor in outputs],
        )

    @routes.get("/models/{name}", responses=problems(404, 503))
    async def model_metadata(name: str) -> schemas.ModelMetadata:
        """The tensors of a model. `image` may also be BYTES `[n]`: encoded pictures."""
        return described(catalog.find(name))

    @routes.get("/models/{name}/versions/{version}", responses=problems(404, 503))
    async def version_metadata(name: str, version: str) -> schemas.ModelMetadata:
        """The tensors of one version of a model."""
        return described(catalog.find(name, version))

    @routes.get("/models/{name}/ready", responses=problems(404, 503))
    async def model_ready(name: str) -> schemas.ModelReady:
        """Whether a model may be asked."""
        return schemas.ModelReady(name=catalog.find(name).card.name, ready=True)

    @routes.get("/models/{name}/versions/{version}/ready", responses=problems(404, 503))
    async def version_ready(name: str, version: str) -> schemas.ModelReady:
        """Whether one version of a model may be asked."""
        return schemas.ModelReady(name=catalog.find(name, version).card.name, ready=True)
