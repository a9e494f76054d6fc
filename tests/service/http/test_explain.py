"""Who waits for an explanation, and what is kept for it."""

import asyncio
import copy
import dataclasses
import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from logitserve.inference.explaining import LEAST_PAUSE_SECONDS
from logitserve.inference.model_file import read
from logitserve_service.errors import ExplainersBusyError, ModelUnavailableError
from logitserve_service.http.explain import BUSY_SECONDS, MOST_WAITING, Explaining
from logitserve_service.http.problems import of_error
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import shared_rows
from tests.service.gated import answer, batcher_of, picture
from tests.service.http.test_endpoint import until
from tests.service.serving import Bench, bench
from tests.tiny_models import random_picture


@pytest.fixture
def process() -> Iterator[Bench]:
    with bench() as started:
        yield started


@pytest.fixture
def explaining(process: Bench) -> Explaining:
    return Explaining(process.endpoint.catalog.loader, Metrics(shared_rows(1)))


def loaded(process: Bench) -> LoadedModel:
    """The version itself, without the gate that the bench puts before it."""
    model = process.endpoint.catalog.loader._models["tiny"]["1"].model
    assert model is not None
    return model


@pytest.mark.anyio
async def test_four_wait_and_the_next_is_told_when_to_come_again(
    process: Bench, explaining: Explaining
) -> None:
    model, gate = loaded(process), threading.Event()
    explaining._thread.submit(gate.wait, 30)
    asked = [
        asyncio.create_task(explaining.explain(model, random_picture(seed), png=False))
        for seed in range(1 + MOST_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(ExplainersBusyError, match="4 explanations are queued already") as caught:
        await explaining.explain(model, random_picture(9), png=False)
    response = of_error(caught.value)
    assert response.status == 429
    assert b"retry-after: 1" in response.head
    asked[-1].cancel()  # a client that is gone waits no more
    with pytest.raises(asyncio.CancelledError):
        await asked.pop()
    asked.append(asyncio.create_task(explaining.explain(model, random_picture(9), png=False)))
    gate.set()
    answers = await asyncio.gather(*asked)
    assert len(answers) == 1 + MOST_WAITING
    assert explaining._unanswered == 0


@pytest.mark.anyio
async def test_a_session_is_made_once_and_goes_with_its_version(
    process: Bench, explaining: Explaining
) -> None:
    first_loaded = loaded(process)
    model = dataclasses.replace(first_loaded, predictor=copy.copy(first_loaded.predictor))
    await explaining.explain(model, random_picture(1), png=False)
    (first,) = explaining._explainers.values()
    await explaining.explain(model, random_picture(2), png=False)
    assert [*explaining._explainers.values()] == [first]
    gone = weakref.ref(first)
    del first, model
    # The thread has answered, and may hold it for another moment.
    await until(lambda: gc.collect() >= 0 and gone() is None)
    assert not explaining._explainers


@pytest.mark.anyio
async def test_a_version_that_was_replaced_meanwhile(
    process: Bench, explaining: Explaining
) -> None:
    held = process.endpoint.catalog.find("tiny")  # whose bytes are no others than the gate's
    with pytest.raises(ModelUnavailableError, match="'tiny' is being replaced") as caught:
        await explaining.explain(held, random_picture(1), png=False)
    assert of_error(caught.value).status == 503
    loader = process.endpoint.catalog.loader
    with loader.reading(loaded(process)) as kept, read(loader.repository.path("tiny", "1")) as file:
        assert kept.sha256 == file.sha256 == loaded(process).predictor.sha256


@pytest.mark.anyio
async def test_only_predictions_make_a_worker_busy(
    process: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(shared_rows(1))
    explaining = Explaining(process.endpoint.catalog.loader, metrics)
    model = loaded(process)
    batcher = batcher_of(model.predictor, metrics=metrics.model(model.card))
    await explaining.explain(dataclasses.replace(model, batcher=batcher), picture(1)[0], png=False)
    assert not explaining._is_busy()
    now = time.perf_counter()
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    await answer(batcher, picture(2))
    assert explaining._is_busy()
    now += 0.9 * BUSY_SECONDS
    assert explaining._is_busy()
    now += 0.2 * BUSY_SECONDS
    assert not explaining._is_busy()


@pytest.mark.anyio
async def test_an_explanation_pauses_on_a_busy_worker(
    explaining: Explaining, process: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    await explaining.explain(loaded(process), random_picture(1), png=False)
    assert pauses == []
    explaining._metrics.last_run = time.perf_counter() + 60  # however slow the explanation is
    await explaining.explain(loaded(process), random_picture(1), png=False)
    assert len(pauses) > 1
    assert min(pauses) >= LEAST_PAUSE_SECONDS
