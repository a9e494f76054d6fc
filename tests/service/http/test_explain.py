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

from logitserve.inference.explaining import BUDGET_MS, LEAST_PAUSE_SECONDS, Method
from logitserve.inference.model_file import read
from logitserve_service.errors import ExplainersBusyError, ModelUnavailableError
from logitserve_service.http import explain
from logitserve_service.http.explain import MOST_WAITING, Explaining
from logitserve_service.http.problems import of_error
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import shared_rows
from tests.service.http.test_endpoint import until
from tests.service.serving import Bench, bench
from tests.tiny_models import random_picture


@pytest.fixture
def process() -> Iterator[Bench]:
    with bench() as started:
        yield started


@pytest.fixture
def explaining(process: Bench) -> Explaining:
    endpoint = process.endpoint
    budget = endpoint.admission.budget
    return Explaining(endpoint.catalog.loader, Metrics(shared_rows(1)), lambda: budget.released)


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
@pytest.mark.parametrize("busy_seconds", [60.0, 0.0])
async def test_a_worker_is_busy_for_a_while_after_an_answer(
    process: Bench, monkeypatch: pytest.MonkeyPatch, busy_seconds: float
) -> None:
    """One prediction is answered during the first of two explanations, and none in the second."""
    monkeypatch.setattr(explain, "BUSY_SECONDS", busy_seconds)
    answered, asked = 7, 0
    pauses: list[float] = []

    def count() -> int:
        nonlocal asked
        asked += 1
        return answered + (asked > 3)

    monkeypatch.setattr(time, "sleep", pauses.append)
    explaining = Explaining(process.endpoint.catalog.loader, Metrics(shared_rows(1)), count)
    of = {"method": Method.OCCLUSION, "label": None, "against": None, "budget_ms": BUDGET_MS}
    await explaining.explain(loaded(process), random_picture(1), png=False, **of)
    if busy_seconds:
        assert len(pauses) > 1
        assert min(pauses) >= LEAST_PAUSE_SECONDS
        return
    assert pauses == []
    answered += 1  # the first explanation, whose body is released after its response
    await explaining.explain(loaded(process), random_picture(2), png=False, **of)
    assert pauses == []
