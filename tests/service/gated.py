"""A batcher whose results can be awaited, and a model that a test can hold up."""

import asyncio
import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from logitserve.inference.predictor import Predictor
from logitserve.inference.rendering import PLAIN, OutputOptions
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.preprocessing import Decoders
from logitserve_service.execution.result import Result
from tests.tiny_models import random_picture

Images = npt.NDArray[np.uint8]
Outcome = Result | Exception

DECODERS = Decoders(2, 2**30)


class GatedPredictor(Predictor):
    """A real model whose runs wait until the test opens the gate; warm-up passes freely."""

    def __init__(self, inner: Predictor) -> None:
        super().__init__(inner.card, inner._session)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[int] = []

    def run(self, images: Images) -> npt.NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append(len(images))
        return super().run(images)


def batcher_of(predictor: Predictor, *, threaded: bool = False, **options: Any) -> Batcher:
    """A batcher; with `threaded` it expects long runs, which leave the event loop."""
    limits: dict[str, Any] = {"max_queue": 1000, "max_pixels": 1_000_000, "decoders": DECODERS}
    batcher = Batcher(predictor, **{**limits, **options})
    if threaded:
        batcher._expected_seconds = lambda *_: math.inf  # type: ignore[method-assign]
    if isinstance(predictor, GatedPredictor):
        predictor.batches.clear()
    return batcher


def picture(seed: int) -> Images:
    return random_picture(seed)[np.newaxis]


def ask(
    batcher: Batcher, inputs: Inputs, options: OutputOptions | None = PLAIN
) -> asyncio.Future[Outcome]:
    """Submit; the future gets the result or the error as its result, and cancels the job."""
    outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def on_result(result: Outcome) -> None:
        if not outcome.done():
            outcome.set_result(result)

    job = batcher.submit(inputs, options, on_result)
    outcome.add_done_callback(lambda done: job.cancel() if done.cancelled() else None)
    return outcome


async def answer(batcher: Batcher, inputs: Inputs, options: OutputOptions | None = PLAIN) -> Result:
    """The result; an error is raised."""
    return result_of(await ask(batcher, inputs, options))


def result_of(outcome: Outcome) -> Result:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def busy(batcher: Batcher, gated: GatedPredictor) -> asyncio.Future[Outcome]:
    """Let one run begin and stand at the gate."""
    gated.gate.clear()
    gated.entered.clear()
    first = ask(batcher, picture(0))
    await asyncio.to_thread(gated.entered.wait, 30)
    return first


async def until_empty(batcher: Batcher) -> None:
    """Wait until no image waits; fail where that takes too long."""
    for _ in range(2000):
        if not batcher.waiting:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{batcher.waiting} images still wait")
