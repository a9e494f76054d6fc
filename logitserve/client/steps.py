"""Requests of a client as generators, shared by the synchronous and the asyncio client."""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, TypedDict, TypeVar

import httpx

from logitserve.client.answers import (
    Model,
    ModelDetail,
    Prediction,
    detail_of,
    models_of,
    predictions_of,
)
from logitserve.client.pictures import Picture, encoded
from logitserve.client.retries import Outcome, Retries, Wait, may_pass, result_of

PICTURES_A_REQUEST: Final = 64
LABELS_A_REQUEST: Final = 10_000
KEY_VARIABLE: Final = "LOGITSERVE_API_KEY"

T = TypeVar("T")
Steps = Generator[httpx.Request | Wait, Outcome | None, T]
"""Yields requests to send and seconds to wait; receives the outcome of each."""


class Options(TypedDict, total=False):
    """Options of a client."""

    api_key: str
    """Sent as `X-API-Key`; the default is the environment variable LOGITSERVE_API_KEY."""
    timeout: float
    """Timeout of one attempt in seconds."""
    retries: Retries
    """Retry policy."""
    jitter: Callable[[], float]
    """Returns a random number from 0 to 1."""


class Asked(TypedDict, total=False):
    """Options of a prediction."""

    model: str | None
    """Name of the model; the server's default if not given."""
    version: str | None
    """Version of the model; the latest if not given."""
    top_k: int | None
    """Return only the k most probable classes, in descending order."""
    coverage: float | None
    """Coverage of the prediction `set`, 0 to 1; softmax and binary models."""
    calibrated: bool | None
    """False: uncalibrated probabilities, without temperature or scaling."""


class BaseClient:
    """Requests, retries and responses; subclasses send and wait."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: Retries | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._url = httpx.URL(url.rstrip("/") + "/")
        api_key = os.environ.get(KEY_VARIABLE) if api_key is None else api_key
        self._headers = {"X-API-Key": _checked(api_key)} if api_key else {}
        self._timeout = httpx.Timeout(timeout)
        self._retries = retries or Retries()
        self._jitter = jitter

    def _predict(
        self,
        pictures: Sequence[Picture],
        *,
        model: str | None = None,
        version: str | None = None,
        **options: object,
    ) -> Steps[list[Prediction]]:
        if version is not None and model is None:
            raise ValueError("a version needs its model's name")
        path = "predict" if model is None else f"{_model_path(model, version)}/predict"
        predictions: list[Prediction] = []
        for start in range(0, len(pictures), PICTURES_A_REQUEST):
            parts = [("file", encoded(p)) for p in pictures[start : start + PICTURES_A_REQUEST]]
            request = self._request("POST", path, files=parts, params=_given(options))
            answer = yield from self._answer(request)
            predictions += predictions_of(answer)
        return predictions

    def _explain(
        self,
        picture: Picture,
        *,
        png: bool,
        model: str | None = None,
        version: str | None = None,
        **options: object,
    ) -> Steps[Any]:
        path = "explain" if model is None else f"{_model_path(model, version)}/explain"
        files, params = [("file", encoded(picture))], _given(options)
        request = self._request("POST", path, files=files, params=params)
        if png:
            request.headers["Accept"] = "image/png"
        return (yield from self._answer(request))

    def _models(self) -> Steps[list[Model]]:
        answer = yield from self._answer(self._request("GET", "models"))
        return models_of(answer)

    def _model(self, name: str, version: str | None) -> Steps[ModelDetail]:
        answer = yield from self._answer(self._request("GET", _model_path(name, version)))
        return detail_of(answer)

    def _drift(
        self, name: str, version: str | None = None, *, accept: str | None = None
    ) -> Steps[dict[str, Any]]:
        path = f"{_model_path(name, version)}/drift"
        request = self._request("GET", path)
        if accept is not None:
            request = self._request("POST", f"{path}/baseline", json={"reference": accept})
        found: dict[str, Any] = yield from self._answer(request)
        return found

    def _feedback(self, labels: Sequence[Mapping[str, object]]) -> Steps[dict[str, Any]]:
        counts: Counter[str] = Counter()
        places: list[dict[str, Any]] = []
        for start in range(0, len(labels), LABELS_A_REQUEST):
            part = list(labels[start : start + LABELS_A_REQUEST])
            answer = yield from self._answer(self._request("POST", "feedback", json=part))
            found = answer.pop("places")
            places += [{**place, "index": place["index"] + start} for place in found]
            counts.update(answer)
        return {**counts, "places": places}

    def _quality(self, model: str, **options: str | None) -> Steps[dict[str, Any]]:
        path = f"{_model_path(model, None)}/quality"
        answer: dict[str, Any] = yield from self._answer(
            self._request("GET", path, params=_given(options))
        )
        return answer

    def _ready(self) -> Steps[bool]:
        outcome = yield self._request("GET", "readyz")
        return isinstance(outcome, httpx.Response) and outcome.is_success

    def _request(self, method: str, path: str, **content: Any) -> httpx.Request:
        return httpx.Request(
            method,
            self._url.join(path),
            headers=self._headers,
            extensions={"timeout": self._timeout.as_dict()},
            **content,
        )

    def _answer(self, request: httpx.Request) -> Steps[Any]:
        """Yield attempts of a request; return the JSON or image of the response."""
        attempt = 0
        while True:
            outcome = yield request
            wait = None
            if may_pass(outcome):
                response = outcome if isinstance(outcome, httpx.Response) else None
                wait = self._retries.wait(attempt, response, self._jitter())
            if wait is None:
                return result_of(outcome)
            attempt += 1
            yield wait


def _checked(api_key: str) -> str:
    """Return the key without a line end, which files and secrets have; errors never quote it."""
    key = api_key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the API key has characters that are not allowed in a header")
    return key


def _model_path(name: str, version: str | None) -> str:
    return f"models/{name}" if version is None else f"models/{name}/versions/{version}"


def _given(options: Mapping[str, object]) -> dict[str, str]:
    """Return the query parameters; booleans are lower case."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in options.items()
        if value is not None
    }
