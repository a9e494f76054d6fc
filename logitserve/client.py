"""A client of the service: pictures in, typed predictions out.

    with Client("http://localhost:8000") as client:
        print(client.predict("three.png").label)

`AsyncClient` is the same with `await`. Needs httpx: pip install 'logitserve[client]'.

ClientError
├── UnreachableError    no connection, or it broke, as often as it was tried
├── TooSlowError        no answer within the timeout
└── ResponseError       the server says what is wrong: `status`, `detail`
"""

import asyncio
import io
import os
import random
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack, overload

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

try:
    import httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the client needs httpx, which is not installed: pip install 'logitserve[client]'"
    ) from error

Picture = str | Path | bytes | npt.NDArray[np.uint8] | Image.Image
"""A path, an encoded file, an array `[h, w]` or `[h, w, 1 | 3 | 4]`, or an image of Pillow's."""

PICTURES_A_REQUEST: Final = 64
KEY_VARIABLE: Final = "LOGITSERVE_API_KEY"
TRY_AGAIN: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

T = TypeVar("T")
Wait = float
"""Seconds."""
Outcome = httpx.Response | httpx.TransportError
Steps = Generator[httpx.Request | Wait, Outcome | None, T]
"""What is to be done, one step at a time; sync and async differ in who does it."""


class ClientError(Exception):
    """Base of every error that a client raises on purpose."""


class UnreachableError(ClientError):
    """The server cannot be reached, or the connection broke each time."""


class TooSlowError(ClientError):
    """The server did not answer within the timeout."""


class ResponseError(ClientError):
    """The server answered that something is wrong."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(f"{status}: {detail}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one picture."""

    model: str
    version: str
    argmax: int
    """Index of the most probable class."""
    label: str
    probability: float
    probabilities: Mapping[str, float]
    """Label → probability; with top_k the highest, in their order."""
    labels: tuple[str, ...] | None
    """Sigmoid models only: those at or above their thresholds."""


@dataclass(frozen=True, slots=True)
class Model:
    """A served model."""

    name: str
    version: str
    versions: tuple[str, ...]
    """Oldest first."""
    is_default: bool
    description: str
    head: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDetail(Model):
    """A served model with the rest of its card."""

    height: int
    width: int
    channels: int
    fit: str
    temperature: float
    thresholds: tuple[float, ...] | None
    metrics: Mapping[str, float]
    created: datetime
    license: str


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a request is repeated that met 429, 503 or a lost connection."""

    count: int = 4
    first_wait: Wait = 0.2
    """Doubled each time; what is waited is drawn between half of it and all."""
    longest_wait: Wait = 20.0
    """A server that asks for more is taken at its word: the request fails."""

    def wait(self, attempt: int, response: httpx.Response | None, jitter: float) -> Wait | None:
        """Seconds before the next try; None if there is none.

        Args:
            attempt: tries that failed before this one.
            response: what the server answered, if it did; its Retry-After is the least.
            jitter: 0 to 1.
        """
        asked = 0.0 if response is None else _retry_after(response)
        if attempt >= self.count or asked > self.longest_wait:
            return None
        backoff: Wait = min(self.first_wait * 2**attempt, self.longest_wait)
        return max(asked, 0.0) + backoff * (0.5 + jitter / 2)


class Options(TypedDict, total=False):
    """What a client may be told."""

    api_key: str
    """Sent as `X-API-Key`; without it LOGITSERVE_API_KEY of the environment, if it is set."""
    timeout: float
    """Seconds that one try may take."""
    retries: Retries
    """When a request is repeated."""
    jitter: Callable[[], float]
    """Draws from 0 to 1."""


class Asked(TypedDict, total=False):
    """What may be asked of a prediction."""

    model: str | None
    """Without it the server's default."""
    version: str | None
    """Without it the latest."""
    top_k: int | None
    """Only the most probable classes, in their order."""


class _Protocol:
    """What sync and async share: requests, retries, answers. Sending and waiting is theirs."""

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
        self._headers = {} if not api_key else {"X-API-Key": api_key}
        self._timeout = httpx.Timeout(timeout)
        self._retries = retries or Retries()
        self._jitter = jitter

    def _predict(
        self,
        pictures: Sequence[Picture],
        *,
        model: str | None = None,
        version: str | None = None,
        top_k: int | None = None,
    ) -> Steps[list[Prediction]]:
        if version is not None and model is None:
            raise ValueError("a version needs its model's name")
        path = "predict" if model is None else f"{_model_path(model, version)}/predict"
        predictions: list[Prediction] = []
        for start in range(0, len(pictures), PICTURES_A_REQUEST):
            parts = [("file", encoded(p)) for p in pictures[start : start + PICTURES_A_REQUEST]]
            request = self._request("POST", path, files=parts, params=_given(top_k=top_k))
            answer = yield from self._answer(request)
            predictions += _predictions(answer)
        return predictions

    def _models(self) -> Steps[list[Model]]:
        answer = yield from self._answer(self._request("GET", "models"))
        return [Model(**_summary(entry, entry)) for entry in answer["models"]]

    def _model(self, name: str, version: str | None) -> Steps[ModelDetail]:
        answer = yield from self._answer(self._request("GET", _model_path(name, version)))
        return _detail(answer)

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
        """The JSON of the answer, after as many tries as it takes and are allowed."""
        attempt = 0
        while True:
            outcome = yield request
            wait = None
            if _may_pass(outcome):
                response = outcome if isinstance(outcome, httpx.Response) else None
                wait = self._retries.wait(attempt, response, self._jitter())
            if wait is None:
                return _result(outcome)
            attempt += 1
            yield wait


class Client(_Protocol):
    """A client for ordinary code; may be used from several threads.

    Args:
        url: of the server, e.g. `http://localhost:8000`.
        sleep: how to wait between tries.
        options: see `Options`.
    """

    def __init__(
        self, url: str, *, sleep: Callable[[Wait], None] = time.sleep, **options: Unpack[Options]
    ) -> None:
        super().__init__(url, **options)
        self._http = httpx.Client()
        self._sleep = sleep

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is one path, not a sequence
        self, picture: Picture, **asked: Unpack[Asked]
    ) -> Prediction: ...
    @overload
    def predict(self, picture: Sequence[Picture], **asked: Unpack[Asked]) -> list[Prediction]: ...
    def predict(
        self, picture: Picture | Sequence[Picture], **asked: Unpack[Asked]
    ) -> Prediction | list[Prediction]:
        """Class probabilities of one picture, or of several in their order.

        Raises:
            ClientError: see the top of the module.
            OSError: a file cannot be read.
        """
        pictures, is_one = _listed(picture)
        predictions = self._run(self._predict(pictures, **asked))
        return predictions[0] if is_one else predictions

    def models(self) -> list[Model]:
        """The models that are served."""
        return self._run(self._models())

    def model(self, name: str, version: str | None = None) -> ModelDetail:
        """One model with its card; the latest version if none is named."""
        return self._run(self._model(name, version))

    def ready(self) -> bool:
        """Whether the server is there and has its models loaded. Does not try twice."""
        return self._run(self._ready())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T]) -> T:
        outcome: Outcome | None = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            outcome = None
            if isinstance(step, Wait):
                self._sleep(step)
                continue
            try:
                outcome = self._http.send(step)
            except httpx.TransportError as error:
                outcome = error


class AsyncClient(_Protocol):
    """The same for asyncio.

    Args:
        url: of the server, e.g. `http://localhost:8000`.
        sleep: how to wait between tries.
        options: see `Options`.
    """

    def __init__(
        self,
        url: str,
        *,
        sleep: Callable[[Wait], Awaitable[None]] = asyncio.sleep,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(url, **options)
        self._http = httpx.AsyncClient()
        self._sleep = sleep

    @overload
    async def predict(  # type: ignore[overload-overlap]  # a str is one path, not a sequence
        self, picture: Picture, **asked: Unpack[Asked]
    ) -> Prediction: ...
    @overload
    async def predict(
        self, picture: Sequence[Picture], **asked: Unpack[Asked]
    ) -> list[Prediction]: ...
    async def predict(
        self, picture: Picture | Sequence[Picture], **asked: Unpack[Asked]
    ) -> Prediction | list[Prediction]:
        """See `Client.predict`."""
        pictures, is_one = _listed(picture)
        predictions = await self._run(self._predict(pictures, **asked))
        return predictions[0] if is_one else predictions

    async def models(self) -> list[Model]:
        """See `Client.models`."""
        return await self._run(self._models())

    async def model(self, name: str, version: str | None = None) -> ModelDetail:
        """See `Client.model`."""
        return await self._run(self._model(name, version))

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(self._ready())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T]) -> T:
        outcome: Outcome | None = None
        while True:
            try:
                # in a thread, as a step may read and encode pictures
                step = await asyncio.to_thread(_next, steps, outcome)
            except _EndError as end:
                return end.value  # type: ignore[no-any-return]
            outcome = None
            if isinstance(step, Wait):
                await self._sleep(step)
                continue
            try:
                outcome = await self._http.send(step)
            except httpx.TransportError as error:
                outcome = error


class _EndError(Exception):
    """The end of the steps; StopIteration cannot cross from a thread."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _next(steps: Steps[Any], outcome: Outcome | None) -> httpx.Request | Wait:
    try:
        return steps.send(outcome)
    except StopIteration as end:
        raise _EndError(end.value) from None


def encoded(picture: Picture) -> bytes:
    """A picture as a file's bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: an array that is not uint8, or not a picture's shape.
    """
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8:
            raise ValueError(f"the array is {picture.dtype}; a picture is uint8, 0 to 255")
        shape = picture.shape
        pixels = picture[..., 0] if len(shape) == 3 and shape[2] == 1 else picture
        try:
            picture = Image.fromarray(np.ascontiguousarray(pixels))
        except TypeError as error:
            raise ValueError(f"an array of shape {list(shape)} is no picture") from error
    picture = ImageOps.exif_transpose(picture)  # PNG keeps no orientation
    if picture.mode in {"CMYK", "YCbCr", "LAB", "HSV", "F"}:  # of which PNG has none
        picture = picture.convert("L" if picture.mode == "F" else "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _listed(picture: Picture | Sequence[Picture]) -> tuple[Sequence[Picture], bool]:
    """The pictures, and whether there is just one that is not in a list."""
    if isinstance(picture, str | Path | bytes | np.ndarray | Image.Image):
        return [picture], True
    return picture, False


def _model_path(name: str, version: str | None) -> str:
    return f"models/{name}" if version is None else f"models/{name}/versions/{version}"


def _given(**parameters: object) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _may_pass(outcome: Outcome | None) -> bool:
    """Whether trying again may help: the server is busy or not ready, or the connection is lost."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in TRY_AGAIN
    return isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError)


def _retry_after(response: httpx.Response) -> Wait:
    """Seconds that the server asks for, as a number or a date; 0 if it does not."""
    asked = response.headers.get("Retry-After", "")
    try:
        return float(asked)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _result(outcome: Outcome | None) -> Any:
    """The JSON of an answer, or the error that it is."""
    if isinstance(outcome, httpx.TimeoutException):
        raise TooSlowError(f"no answer from {outcome.request.url} in time") from outcome
    if not isinstance(outcome, httpx.Response):
        request = outcome.request if outcome is not None else None
        raise UnreachableError(f"{request.url if request else ''}: {outcome}") from outcome
    try:
        document = outcome.json()
    except ValueError:
        document = {"detail": outcome.text[:200]}
    if outcome.is_success:
        return document
    detail = document.get("detail") if isinstance(document, dict) else None
    raise ResponseError(outcome.status_code, str(detail or outcome.reason_phrase))


def _predictions(answer: dict[str, Any]) -> list[Prediction]:
    return [
        Prediction(
            model=answer["model"],
            version=answer["version"],
            argmax=entry["argmax"],
            label=entry["label"],
            probability=entry["probability"],
            probabilities=entry["probabilities"],
            labels=tuple(entry["labels"]) if entry.get("labels") is not None else None,
        )
        for entry in answer["predictions"]
    ]


def _summary(entry: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Model`."""
    return {
        "name": entry["name"],
        "version": entry["version"],
        "versions": tuple(entry["versions"]),
        "is_default": entry["default"],
        "description": card["description"],
        "head": card["head"],
        "labels": tuple(card["labels"]),
    }


def _detail(answer: dict[str, Any]) -> ModelDetail:
    card = answer["card"]
    taken = {name: card["input"][name] for name in ("height", "width", "channels", "fit")}
    return ModelDetail(
        **_summary(answer, card),
        **taken,
        temperature=card["temperature"],
        thresholds=tuple(card["thresholds"]) if card["thresholds"] is not None else None,
        metrics=card["metrics"],
        created=datetime.fromisoformat(card["created"]),
        license=card["license"],
    )
