"""`POST /predict`: pictures in, predictions out, as the project's own JSON."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from logitserve.inference import conformal
from logitserve.inference.card import COVERAGE_RANGE, ModelCard
from logitserve.inference.rendering import PLAIN, Wanted, render
from logitserve_service.api.payloads import departure, read_pictures
from logitserve_service.api.schemas import PICTURES_BODY, PredictResponse, problems
from logitserve_service.execution.batch import Answer
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.classify import Classifier, Departure, Picture, Timing
from logitserve_service.http.limits import RequestLimits
from logitserve_service.repository.catalog import Catalog
from logitserve_service.telemetry.request_ids import server_timing


def _asked(
    top_k: Annotated[
        int | None, Query(ge=1, description="only the most probable classes, in order")
    ] = None,
    calibrated: Annotated[  # noqa: FBT002 - a query parameter, which has a name
        bool, Query(description="false: probabilities as the network gave them, uncalibrated")
    ] = True,
    coverage: Annotated[
        float | None,
        Query(
            description="adds `set`: labels that hold the true one in this share of the pictures",
            json_schema_extra={"minimum": COVERAGE_RANGE[0], "maximum": COVERAGE_RANGE[1]},
        ),
    ] = None,
) -> Wanted:
    return Wanted(top_k, calibrated, coverage)


Asked = Annotated[Wanted, Depends(_asked)]
"""What a request's query asks of the answer."""

Response200 = tuple[bytes, list[tuple[bytes, bytes]]]
"""Body and headers."""


async def answer(
    classifier: Classifier,
    model: Batcher,
    pictures: list[Picture],
    departure: Departure,
    wanted: Wanted = PLAIN,
) -> Response200:
    """Body and headers of the response to a request that carries these pictures.

    Raises:
        CoverageError: see `conformal.check`.
        ImageError, NonFiniteLogitsError, QueueFullError: see `Classifier.classify`.
    """
    if wanted.coverage is not None:
        conformal.check(model.card, wanted.coverage)
    shared = await classifier.answered(model, pictures, departure) if wanted is PLAIN else None
    if shared is not None:
        return response_to(shared)
    predictions, timing = await classifier.classify(model, pictures, departure)
    return _response(model.card, render(model.card, predictions, wanted), timing)


def response_to(shared: Answer) -> Response200:
    """Body and headers of the response to a request that was one item of a batch."""
    return _response(shared.run.card, shared.rendered, Timing.of(shared))


def _response(card: ModelCard, predictions: list[dict[str, Any]], timing: Timing) -> Response200:
    body = orjson.dumps({"model": card.name, "version": card.version, "predictions": predictions})
    return body, [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"server-timing", server_timing(timing)),
    ]


def router(catalog: Catalog, classifier: Classifier, limits: RequestLimits) -> APIRouter:
    """`POST /predict` for the default model, and the same for a named one."""
    routes = APIRouter(tags=["predict"])
    documented: dict[str, Any] = {
        "response_model": PredictResponse,
        "openapi_extra": PICTURES_BODY,
        "responses": problems(400, 404, 408, 413, 415, 422, 429, 503, 504),
    }

    async def respond(request: Request, model: Batcher, wanted: Wanted) -> Response:
        pictures = await read_pictures(request, limits)
        body, headers = await answer(
            classifier, model, pictures, departure(request.receive), wanted
        )
        response = Response(body)
        response.raw_headers = headers
        return response

    @routes.post("/predict", **documented)
    async def predict(request: Request, wanted: Asked) -> Response:
        """Class probabilities of pictures, by the default model."""
        return await respond(request, catalog.find(), wanted)

    @routes.post("/models/{name}/predict", **documented)
    async def predict_by_name(request: Request, name: str, wanted: Asked) -> Response:
        """Class probabilities of pictures, by the latest version of a model."""
        return await respond(request, catalog.find(name), wanted)

    @routes.post("/models/{name}/versions/{version}/predict", **documented)
    async def predict_by_version(
        request: Request, name: str, version: str, wanted: Asked
    ) -> Response:
        """Class probabilities of pictures, by one version of a model."""
        return await respond(request, catalog.find(name, version), wanted)

    return routes
