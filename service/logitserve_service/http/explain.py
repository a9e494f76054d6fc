"""`POST /models/{name}/explain`: how parts of an image contribute to a prediction."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from logitserve.inference.errors import FileChangedError, ModelFileError
from logitserve.inference.explaining import BUDGET_MS, MAX_BUDGET_MS, Method
from logitserve.inference.model_file import Reading
from logitserve_service.api.call import Limits
from logitserve_service.api.openapi import EXPLAIN_RESPONSE, PREDICT_BODY, problems
from logitserve_service.api.schemas import Explained
from logitserve_service.errors import ExplainersBusyError, ModelUnavailableError
from logitserve_service.execution.explainer import Answer, Asked, ExplainerProcess, Start
from logitserve_service.execution.job import Image
from logitserve_service.http import routes
from logitserve_service.http.preview import one_image
from logitserve_service.http.routes import ModelOfPath
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.repository.loader import Loader
from logitserve_service.telemetry.families import EXPLAIN_SECONDS
from logitserve_service.telemetry.metrics import Metrics

MOST_WAITING: Final = 4
"""Maximum number of queued explanations."""


class Explaining:
    """Computes one explanation at a time, in another process."""

    def __init__(self, loader: Loader, metrics: Metrics, start: Start) -> None:
        self._loader = loader
        self._metrics = metrics
        self._process = ExplainerProcess(start)
        self._thread = ThreadPoolExecutor(1, "explain")
        self._unanswered = 0

    async def explain(
        self, model: LoadedModel, image: Image, *, png: bool, **options: Any
    ) -> bytes:
        """Return the body of a response: JSON, or a PNG drawing.

        Raises:
            ExplainersBusyError: too many explanations are queued.
            ModelUnavailableError: the version is being replaced.
            ImageTooLargeError: decoding the image would exceed the memory limit.
            ExplainerLostError: the process ended.
            InferenceError: as in `Explainer.predict` and `Explainer.explain`.
        """
        if self._unanswered > MOST_WAITING:
            raise ExplainersBusyError(MOST_WAITING)
        self._unanswered += 1
        try:
            asked = Asked(image, model.batcher.max_pixels, png, options)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._thread, self._explain, model, asked)
        finally:
            self._unanswered -= 1
        seconds = self._metrics.histogram(EXPLAIN_SECONDS, model.card.name, answer.method)
        seconds.observe(answer.seconds)
        return answer.body

    def _explain(self, model: LoadedModel, asked: Asked) -> Answer:
        try:
            with model.batcher.reserved(asked.image):
                return self._process.explain(model.predictor, lambda: self._reading(model), asked)
        except ModelFileError as error:
            raise ModelUnavailableError(
                f"model {model.card.name!r} is being replaced: {error}; try again later"
            ) from error

    @contextmanager
    def _reading(self, model: LoadedModel) -> Iterator[Reading]:
        with self._loader.reading(model) as content:
            if content.sha256 != model.predictor.sha256:
                raise FileChangedError("another file was loaded")
            yield content


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
