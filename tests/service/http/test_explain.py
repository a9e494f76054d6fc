"""Who waits for an explanation, and the process that computes it."""

import asyncio
import copy
import dataclasses
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Pipe, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import numpy as np
import orjson
import pytest

from logitserve.inference.errors import ExplanationError, TooManyPixelsError
from logitserve.inference.explaining import MAX_BUDGET_MS
from logitserve.inference.model_file import read
from logitserve_service.errors import (
    ExplainerLostError,
    ExplainersBusyError,
    ImageTooLargeError,
    ModelUnavailableError,
)
from logitserve_service.execution import explainer
from logitserve_service.execution.explainer import NICENESS, StartRequests
from logitserve_service.execution.preprocessing import Decoders
from logitserve_service.http.explain import MOST_WAITING, Explaining
from logitserve_service.http.problems import of_error
from logitserve_service.repository.loaded_model import LoadedModel
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import shared_rows
from tests.service.gated import batcher_of
from tests.service.http.test_endpoint import until
from tests.service.serving import Bench, bench
from tests.tiny_models import png, random_picture

_spawn = multiprocessing.get_context("spawn")


class Starter:
    """Starts requested processes, as the supervisor does."""

    def __init__(self) -> None:
        self.requests = StartRequests()
        self.processes: list[SpawnProcess] = []
        self._stopping, self._stop = Pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._stopping not in wait([self.requests.fileno(), self._stopping]):
            with self.requests.receive() as connection:
                process = _spawn.Process(target=explainer.run, args=(connection,))
                process.start()
            self.processes.append(process)

    def close(self) -> None:
        self._stop.close()
        self._thread.join()
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture
def process() -> Iterator[Bench]:
    with bench() as started:
        yield started


@pytest.fixture
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    starter.close()


@pytest.fixture
def explaining(process: Bench, starter: Starter) -> Explaining:
    loader = process.endpoint.catalog.loader
    return Explaining(loader, Metrics(shared_rows(1)), starter.requests.send)


def loaded(process: Bench) -> LoadedModel:
    """The version itself, without the gate that the bench puts before it."""
    model = process.endpoint.catalog.loader._models["tiny"]["1"].model
    assert model is not None
    return model


async def explain(explaining: Explaining, model: LoadedModel, seed: int, **asked: Any) -> Any:
    options = {"budget_ms": MAX_BUDGET_MS, **asked}
    body = await explaining.explain(model, random_picture(seed), png=False, **options)
    return orjson.loads(body)


@pytest.mark.anyio
async def test_four_wait_and_the_next_is_told_when_to_come_again(
    process: Bench, explaining: Explaining
) -> None:
    model, gate = loaded(process), threading.Event()
    explaining._thread.submit(gate.wait, 30)
    asked = [
        asyncio.create_task(explain(explaining, model, seed)) for seed in range(1 + MOST_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(ExplainersBusyError, match="4 explanations are queued already") as caught:
        await explain(explaining, model, 9)
    response = of_error(caught.value)
    assert response.status == 429
    assert b"retry-after: 1" in response.head
    asked[-1].cancel()  # a client that is gone waits no more
    with pytest.raises(asyncio.CancelledError):
        await asked.pop()
    asked.append(asyncio.create_task(explain(explaining, model, 9)))
    gate.set()
    answers = await asyncio.gather(*asked)
    assert explaining._unanswered == 0
    for seed, answer in zip((0, 1, 2, 3, 9), answers, strict=True):
        predictions = model.predictor.predict(random_picture(seed)[None])
        expected = dict(zip(model.card.labels, predictions.probabilities[0], strict=True))
        assert answer["prediction"]["probabilities"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.anyio
async def test_a_model_is_opened_once_in_one_process_of_low_priority(
    process: Bench, explaining: Explaining, starter: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[LoadedModel] = []
    reading = Explaining._reading

    def recorded(self: Explaining, model: LoadedModel) -> Any:
        opened.append(model)
        return reading(self, model)

    monkeypatch.setattr(Explaining, "_reading", recorded)
    model = loaded(process)
    other = dataclasses.replace(model, predictor=copy.copy(model.predictor))
    for asked in (model, model, other, other, model):
        await explain(explaining, asked, 1)
    assert opened == [model, other, model]
    (only,) = starter.processes
    assert only.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, only.pid) == NICENESS
    # A version that is no longer served is not kept by its explanations.
    gone = copy.copy(model.predictor)
    await explain(explaining, dataclasses.replace(model, predictor=gone), 1)
    known = explaining._process._predictor
    assert known() is gone
    opened.clear()
    del gone
    await until(lambda: gc.collect() >= 0 and known() is None)


@pytest.mark.anyio
async def test_another_process_is_started_when_one_has_ended(
    process: Bench, explaining: Explaining, starter: Starter
) -> None:
    model = loaded(process)
    first = await explain(explaining, model, 1)
    starter.processes[0].kill()
    starter.processes[0].join()
    assert await explain(explaining, model, 1) == first
    assert len(starter.processes) == 2
    # Killed before it has answered, and so is the next one.
    os.kill(starter.processes[1].pid or 0, signal.SIGSTOP)
    asked = asyncio.create_task(explain(explaining, model, 1))
    await asyncio.sleep(0)
    start = explaining._process._start
    explaining._process._start = lambda: Pipe()[0]  # whose other end is closed
    starter.processes[1].kill()
    with pytest.raises(ExplainerLostError, match="has ended; try again") as caught:
        await asked
    assert of_error(caught.value).status == 503
    explaining._process._start = start
    assert await explain(explaining, model, 1) == first


@pytest.mark.anyio
async def test_no_process_can_be_started_while_the_service_stops(
    process: Bench, explaining: Explaining, starter: Starter
) -> None:
    starter.close()
    asked = asyncio.create_task(explain(explaining, loaded(process), 1))
    await until(lambda: bool(wait([starter.requests.fileno()], 0)))
    starter.requests.close_receiving()
    for waiting in (asked, explain(explaining, loaded(process), 1)):
        with pytest.raises(ExplainerLostError):
            await waiting


@pytest.mark.anyio
async def test_a_process_needs_no_supervisor(process: Bench, explaining: Explaining) -> None:
    loader, model = process.endpoint.catalog.loader, loaded(process)
    expected = await explain(explaining, model, 1)
    before = set(multiprocessing.active_children())
    alone = Explaining(loader, Metrics(shared_rows(1)), explainer.spawned)
    assert await explain(alone, model, 1) == expected
    (child,) = set(multiprocessing.active_children()) - before
    del alone
    await until(lambda: gc.collect() >= 0 and not child.is_alive())


def test_an_idle_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explainer, "give_way", lambda _: None)
    monkeypatch.setattr(explainer, "IDLE_SECONDS", 0.01)
    own, other = Pipe()
    with other:
        explainer.run(other)
    with pytest.raises(EOFError):
        own.recv()


@pytest.mark.anyio
async def test_errors_keep_their_class_and_text(process: Bench, explaining: Explaining) -> None:
    model = loaded(process)
    with pytest.raises(ExplanationError, match="no label 'x'"):
        await explain(explaining, model, 1, label="x")
    small = dataclasses.replace(model, batcher=batcher_of(model.predictor, max_pixels=63))
    with pytest.raises(TooManyPixelsError, match="the limit is 63 pixels") as caught:
        await explain(explaining, small, 1)
    assert of_error(caught.value).status == 413
    with pytest.raises(RuntimeError, match="unexpected keyword argument 'labell'") as unexpected:
        await explain(explaining, model, 1, labell="x")
    assert of_error(unexpected.value).status == 500
    decoders = Decoders(1, 1000)
    narrow = dataclasses.replace(model, batcher=batcher_of(model.predictor, decoders=decoders))
    with pytest.raises(ImageTooLargeError):
        await explaining.explain(narrow, png(np.zeros((100, 100), np.uint8)), png=False)
    assert (await explain(explaining, model, 1))["complete"]


@pytest.mark.anyio
async def test_a_version_that_was_replaced_meanwhile(
    process: Bench, explaining: Explaining
) -> None:
    held = process.endpoint.catalog.find("tiny")  # whose bytes are no others than the gate's
    with pytest.raises(ModelUnavailableError, match="'tiny' is being replaced") as caught:
        await explain(explaining, held, 1)
    assert of_error(caught.value).status == 503
    loader = process.endpoint.catalog.loader
    with loader.reading(loaded(process)) as kept, read(loader.repository.path("tiny", "1")) as file:
        assert kept.sha256 == file.sha256 == loaded(process).predictor.sha256
