"""A model that the test can hold up."""

import asyncio
import threading

import numpy as np
import numpy.typing as npt

from logitserve.inference.predictor import Predictor
from logitserve_service.execution.batch import Answer
from logitserve_service.execution.batcher import IN_PLACE_SECONDS, Batcher
from tests.tiny_models import random_picture

Images = npt.NDArray[np.uint8]


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


def in_a_thread(batcher: Batcher) -> Batcher:
    """Make the batcher expect long runs, so that it runs them in a thread."""
    batcher._overhead = 10 * IN_PLACE_SECONDS
    return batcher


def picture(seed: int) -> Images:
    return random_picture(seed)[np.newaxis]


async def busy(batcher: Batcher, gated: GatedPredictor) -> asyncio.Future[Answer]:
    """Let one run begin and stand at the gate."""
    gated.gate.clear()
    gated.entered.clear()
    first = batcher.submit(picture(0))
    await asyncio.to_thread(gated.entered.wait, 30)
    return first
