"""The synchronous and the asyncio client."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from logitserve.client.answers import Model, ModelDetail, Prediction
from logitserve.client.pictures import Picture, listed
from logitserve.client.retries import Outcome, Wait
from logitserve.client.steps import Asked, BaseClient, Options, Steps

T = TypeVar("T")


class Client(BaseClient):
    """Synchronous client; thread-safe.

    Args:
        url: URL of the server, e.g. `http://localhost:8000`.
        sleep: waits between retries.
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
        """Return the class probabilities of one picture, or of several in their order.

        Raises:
            ClientError: see `logitserve.client`.
            OSError: a file cannot be read.
        """
        pictures, is_one = listed(picture)
        predictions = self._run(self._predict(pictures, **asked))
        return predictions[0] if is_one else predictions

    def explain(self, picture: Picture, *, png: bool = False, **asked: Any) -> Any:
        """Return the JSON of `POST /explain`, or its drawing as the bytes of a PNG file.

        Args:
            picture: one picture, as for `predict`; the same errors are raised.
            png: whether to return the drawing.
            asked: `model`, `version` and the options of the route: docs/explain.md.
        """
        return self._run(self._explain(picture, png=png, **asked))

    def models(self) -> list[Model]:
        """Return the served models."""
        return self._run(self._models())

    def model(self, name: str, version: str | None = None) -> ModelDetail:
        """Return one model with its card; the latest version by default."""
        return self._run(self._model(name, version))

    def drift(
        self, name: str, version: str | None = None, *, accept: str | None = None
    ) -> dict[str, Any]:
        """Return the drift report of a model: the JSON of `GET /models/{name}/drift`.

        `accept`, "live" or "card", sets the new reference; it needs the admin key.
        """
        return self._run(self._drift(name, version, accept=accept))

    def feedback(self, labels: Sequence[Mapping[str, object]]) -> dict[str, Any]:
        """Send the true labels of predictions.

        Args:
            labels: objects with `id` and `label` or `labels`; optionally `source` and `at`.

        Returns:
            Counts by outcome, and the `places` of invalid labels.
        """
        return self._run(self._feedback(labels))

    def quality(
        self, model: str, *, version: str | None = None, window: str | None = None
    ) -> dict[str, Any]:
        """Return the measured quality of the predictions whose true labels are known."""
        return self._run(self._quality(model, version=version, window=window))

    def ready(self) -> bool:
        """Return whether the server answers and its models are loaded. Does not retry."""
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


class AsyncClient(BaseClient):
    """Asyncio client with the methods of `Client`."""

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
        pictures, is_one = listed(picture)
        predictions = await self._run(self._predict(pictures, **asked))
        return predictions[0] if is_one else predictions

    async def explain(self, picture: Picture, *, png: bool = False, **asked: Any) -> Any:
        """See `Client.explain`."""
        return await self._run(self._explain(picture, png=png, **asked))

    async def models(self) -> list[Model]:
        """See `Client.models`."""
        return await self._run(self._models())

    async def model(self, name: str, version: str | None = None) -> ModelDetail:
        """See `Client.model`."""
        return await self._run(self._model(name, version))

    async def drift(
        self, name: str, version: str | None = None, *, accept: str | None = None
    ) -> dict[str, Any]:
        """See `Client.drift`."""
        return await self._run(self._drift(name, version, accept=accept))

    async def feedback(self, labels: Sequence[Mapping[str, object]]) -> dict[str, Any]:
        """See `Client.feedback`."""
        return await self._run(self._feedback(labels))

    async def quality(
        self, model: str, *, version: str | None = None, window: str | None = None
    ) -> dict[str, Any]:
        """See `Client.quality`."""
        return await self._run(self._quality(model, version=version, window=window))

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
                # in a thread: a step may read and encode pictures
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
    """Carries the result of the steps; StopIteration cannot be raised across threads."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _next(steps: Steps[Any], outcome: Outcome | None) -> httpx.Request | Wait:
    try:
        return steps.send(outcome)
    except StopIteration as end:
        raise _EndError(end.value) from None
