"""Run another version of a model on answered batches, and compare its predictions.

It has one low-priority thread, which takes one batch at a time. Batches that arrive meanwhile are
dropped and counted, so the shadow never delays answers.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from logitserve.inference.card import ModelCard
from logitserve.inference.comparing import decisions
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.execution.job import Tensor
from logitserve_service.execution.preprocessing import give_way

Outcome = Literal["agrees", "differs", "dropped", "failed"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("agrees", "differs", "dropped", "failed")
MAX_FAILURES: Final = 10
"""Consecutive failed batches after which the shadow is switched off."""

logger = logging.getLogger("logitserve.shadow")


class Shadow:
    """The shadow of a live version. Belongs to one event loop."""

    def __init__(
        self,
        live: ModelCard,
        predictor: Predictor,
        percent: float,
        count: Callable[[Outcome, int], None],
    ) -> None:
        """Start a shadow of the live version.

        Args:
            live: the card of the live version.
            predictor: the shadow version; it takes the same input.
            percent: share of the batches to compare, 0 to 100.
            count: called from the event loop with an outcome and its number of images.
        """
        self._live, self._predictor, self._share = live, predictor, percent / 100
        self._count = count
        self._thread = ThreadPoolExecutor(1, "shadow", initializer=give_way)
        self._busy = False
        self._failures = 0

    def see(self, images: Tensor, predictions: Predictions) -> None:
        """Run and compare a batch in the thread, unless the thread is busy."""
        if self._failures >= MAX_FAILURES or random.random() >= self._share:  # noqa: S311
            return
        if self._busy or len(images) != len(predictions):  # an image failed
            self._count("dropped", len(images))
            return
        self._busy = True
        done = asyncio.get_running_loop().run_in_executor(
            self._thread, self._agreeing, images, predictions
        )
        done.add_done_callback(lambda done: self._settle(done, len(images)))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _agreeing(self, images: Tensor, predictions: Predictions) -> int:
        card = self._predictor.card
        shadow = Predictions.of(self._predictor.run(images), card)
        same = decisions(self._live, predictions) == decisions(card, shadow, self._live.labels)
        return int(same.all(axis=1).sum())

    def _settle(self, done: "asyncio.Future[int]", images: int) -> None:
        self._busy = False
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._failures = 0
            self._count("agrees", done.result())
            self._count("differs", images - done.result())
            return
        self._count("failed", images)
        self._failures += 1
        if self._failures == MAX_FAILURES:
            name = f"model {self._live.name}: the shadow, version {self._predictor.card.version},"
            logger.error(
                "%s failed %d times in a row and is switched off: %s", name, MAX_FAILURES, error
            )
