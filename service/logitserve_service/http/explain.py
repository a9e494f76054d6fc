"""`POST /models/{name}/explain`: how parts of an image contribute to a prediction."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Final
from weakref import WeakKeyDictionary

import orjson
from fastapi import APIRouter, Query, Request, Response

from logitserve.inference.errors import FileChangedError, ModelFileError
from logitserve.inference.explaining import (
    BUDGET_MS,
    MAX_BUDGET_MS,
    Explainer,
    Method,
)
from logitserve.inference.images import encode_png
from logitserve.inference.overlay import overlay
from logitserve.inference.predictor import Predictor
from logitserve_service.api.call import Limits
from logitserve_service.api.openapi import EXPLAIN_RESPONSE, PREDICT_BODY, problems
from logitserve_service.api.schemas import Explained
from logitserve_service.errors import ExplainersBusyError, ModelUnavailableError
from logitserve_service.execution.job import Image
from logitserve_service.execution.preprocessing import give_way
from logitserve_service.http import routes
from logitserve_service.http.preview import one_image
from logitserve_service.http.routes import ModelOfPath
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.repository.loader import Loader
from logitserve_service.telemetry.families import EXPLAIN_SECONDS
from logitserve_service.telemetry.metrics import Metrics

MOST_WAITING: Final = 4
"""Maximum number of queued explanations."""
BUSY_SECONDS: Final = 0.1
"""How long after a prediction the worker counts as busy: the runs of an explanation are shorter
than the time between requests of one client, so that most of them would see no new prediction."""
LOWEST_PRIORITY: Final = 19
"""Niceness of the thread (`benchmarks/explaining.py` measures the effect on predictions)."""


class Explaining:
    """Computes one explanation at a time, in a thread of low priority."""

    def __init__(self, loader: Loader, metrics: Metrics) -> None:
        """Give way to predictions; `metrics` holds the time of their last run."""
        self._loader = loader
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(
            1, "explain", initializer=give_way, initargs=(LOWEST_PRIORITY,)
        )
        self._unanswered = 0
        # Only for the last model, as each needs the memory of a model; freed with the model.
        self._explainers: WeakKeyDictionary[Predictor, Explainer] = WeakKeyDictionary()

    async def explain(self, model: LoadedModel, image: Image, *, png: bool, **asked: Any) -> bytes:
        """Return the body of a response: JSON, or a PNG drawing.

        Raises:
            ExplainersBusyError: too many explanations are queued.
            ModelUnavailableError: the version is being replaced.
            InferenceError, ServiceError: as in `Batcher.predict_apart` and `Explainer.explain`.
        """
        if self._unanswered > MOST_WAITING:
            raise ExplainersBusyError(MOST_WAITING)
        self._unanswered += 1
        try:
            loop = asyncio.get_running_loop()
            made = partial(self._explain, model, image, png=png, **asked)
            body, method, seconds = await loop.run_in_executor(self._thread, made)
        finally:
            self._unanswered -= 1
        self._metrics.histogram(EXPLAIN_SECONDS, model.card.name, method).observe(seconds)
        return body

    def _explain(
        self, model: LoadedModel, image: Image, *, png: bool, **asked: Any
    ) -> tuple[bytes, Method, float]:
        explainer = self._explainers.get(model.predictor)
        if explainer is None:
            self._explainers.clear()
            self._explainers[model.predictor] = explainer = self._opened(model)
        begun = time.perf_counter()
        prediction, shown = model.batcher.predict_apart(image, explainer.predictor)
        found = explainer.explain(shown, **asked, is_busy=self._is_busy)
        if png:
            body = encode_png(overlay(shown, found.map))
        else:
            who = {"model": model.card.name, "version": model.card.version}
            body = orjson.dumps({**who, "prediction": prediction, **found.model_dump()})
        return body, found.method, time.perf_counter() - begun

    def _is_busy(self) -> bool:
        """Return whether there were predictions in the last `BUSY_SECONDS`."""
        return time.perf_counter() - self._metrics.last_run < BUSY_SECONDS

    def _opened(self, model: LoadedModel) -> Explainer:
        try:
            with self._loader.reading(model) as content:
                if content.sha256 != model.predictor.sha256:
                    raise FileChangedError("another file was loaded")
                return Explainer(content, model.card)
        except ModelFileError as error:
            raise ModelUnavailableError(
                f"model {model.card.name!r} is being replaced: {error}; try again later"
            ) from error


def router(explaining: Explaining, limits: Limits) -> APIRouter:
    """Make the routes to explain predictions of any model, and of the default model."""
    router = APIRouter(tags=["predict"])

    async def explain(
        request: Request,
        model: ModelOfPath,
        *,
        method: Method = Method.AUTO,
        label: Annotated[
            str | None, Query(description="label to explain; default: the most probable label")
        ] = None,
        against: Annotated[
            str | None, Query(description="explain the difference to this label")
        ] = None,
        budget_ms: Annotated[int, Query(ge=1, le=MAX_BUDGET_MS)] = BUDGET_MS,
    ) -> Response:
        """Explain which parts of an image support a label, and which oppose it.

        With `Accept: image/png`, the response is the network's input with these parts in blue and
        red.
        """
        image = await one_image(request, model, limits, "an explanation")
        png = "image/png" in request.headers.get("accept", "")
        asked = {"method": method, "label": label, "against": against, "budget_ms": budget_ms}
        body = await explaining.explain(model, image, png=png, **asked)
        return Response(body, media_type="image/png" if png else "application/json")

    documented: dict[str, Any] = {
        "methods": ("POST",),
        "response_model": Explained,
        "openapi_extra": PREDICT_BODY,
        "responses": EXPLAIN_RESPONSE | problems(400, 404, 408, 413, 415, 422, 429, 503, 504),
    }
    router.add_api_route("/explain", explain, name="explain_by_default", **documented)
    routes.add(router, "/models/{name}/explain", explain, **documented)
    return router
