"""`POST /predict`: pictures in, predictions out, as the project's own JSON."""

from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request, Response

from inference.card import Head, ModelCard
from inference.predictor import Predictions
from service.batcher import Batcher
from service.catalog import Catalog
from service.classify import Classifier, Departure, Picture
from service.payloads import departure, read_pictures
from service.schemas import PICTURES_BODY, PredictResponse, problems
from service.telemetry import server_timing

TopK = Annotated[int | None, Query(ge=1, description="only the most probable classes, in order")]


async def answer(
    classifier: Classifier,
    model: Batcher,
    pictures: list[Picture],
    departure: Departure,
    top_k: int | None = None,
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body and headers of the response to a request that carries these pictures.

    Raises:
        ImageError, NonFiniteLogitsError, QueueFullError: see `Classifier.classify`.
    """
    predictions, timing = await classifier.classify(model, pictures, departure)
    body = orjson.dumps(
        {
            "model": model.card.name,
            "version": model.card.version,
            "predictions": render(model.card, predictions, top_k),
        }
    )
    return body, [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"server-timing", server_timing(timing)),
    ]


def router(catalog: Catalog, classifier: Classifier, *, max_pictures: int) -> APIRouter:
    """`POST /predict` for the default model, and the same for a named one."""
    routes = APIRouter(tags=["predict"])
    documented: dict[str, Any] = {
        "response_model": PredictResponse,
        "openapi_extra": PICTURES_BODY,
        "responses": problems(400, 404, 413, 415, 422, 429, 503),
    }

    async def respond(request: Request, model: Batcher, top_k: int | None) -> Response:
        pictures = await read_pictures(request, max_pictures=max_pictures)
        body, headers = await answer(classifier, model, pictures, departure(request.receive), top_k)
        response = Response(body)
        response.raw_headers = headers
        return response

    @routes.post("/predict", **documented)
    async def predict(request: Request, top_k: TopK = None) -> Response:
        """Class probabilities of pictures, by the default model."""
        return await respond(request, catalog.find(), top_k)

    @routes.post("/models/{name}/predict", **documented)
    async def predict_by_name(request: Request, name: str, top_k: TopK = None) -> Response:
        """Class probabilities of pictures, by the latest version of a model."""
        return await respond(request, catalog.find(name), top_k)

    @routes.post("/models/{name}/versions/{version}/predict", **documented)
    async def predict_by_version(
        request: Request, name: str, version: str, top_k: TopK = None
    ) -> Response:
        """Class probabilities of pictures, by one version of a model."""
        return await respond(request, catalog.find(name, version), top_k)

    return routes


def render(
    card: ModelCard, predictions: Predictions, top_k: int | None = None
) -> list[dict[str, Any]]:
    """The predictions of a batch as `schemas.Prediction` describes them."""
    rendered = []
    for probabilities, argmax in zip(
        predictions.probabilities.tolist(), predictions.argmax.tolist(), strict=True
    ):
        named = dict(zip(card.labels, probabilities, strict=True))
        prediction = {
            "argmax": argmax,
            "label": card.labels[argmax],
            "probability": probabilities[argmax],
            "probabilities": named if top_k is None else _most_probable(named, top_k),
        }
        if card.head is Head.SIGMOID:
            assert card.thresholds is not None  # noqa: S101 - the card's own rule
            holds = np.greater_equal(probabilities, card.thresholds)
            prediction["labels"] = [card.labels[i] for i in np.flatnonzero(holds)]
        rendered.append(prediction)
    return rendered


def _most_probable(named: dict[str, float], count: int) -> dict[str, float]:
    return dict(sorted(named.items(), key=lambda item: -item[1])[:count])
