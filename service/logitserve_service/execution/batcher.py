"""Continuous batching: a batch is whatever arrived while the previous one ran.

There is no timer, so a single request never waits. A full queue refuses a request before decoding.
A cancelled job is skipped; an unusable image fails only its own request.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import numpy as np

from logitserve.inference.errors import NonFiniteLogitsError
from logitserve.inference.image_warnings import ImageWarning
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.rendering import OutputOptions
from logitserve_service.errors import QueueFullError
from logitserve_service.execution.batch import Batch, Issue
from logitserve_service.execution.job import MAX_BATCH, Image, Inputs, Job, OnResult, Tensor
from logitserve_service.execution.preprocessing import Decoders, has_large
from logitserve_service.execution.result import Result
from logitserve_service.execution.shadow import Shadow

IN_PLACE_SECONDS = 0.002
"""A run with a longer expected time is done in a thread, so that the event loop, which answers
probes and reads requests, is blocked for this time at most. A thread costs 0.05 ms
(`benchmarks/costs.py`), so shorter runs are done on the event loop."""

FITTING_SECONDS = 0.0003
"""Time to fit one 28×28 digit that does not have MNIST's form (`benchmarks/costs.py`)."""

logger = logging.getLogger("logitserve.batcher")

_WARM_UP_BATCH = 8
_WARM_UP_ROUNDS = 3
_SMOOTHING = 0.05
"""Weight of the newest run in the moving average of the pace."""


class BatchMetrics(Protocol):
    """Records the batches of one model. Called from the event loop."""

    def preprocessed(self, seconds: float) -> None:
        """Record that images of a batch, or large images of a request, were preprocessed."""

    def ran(self, seconds: float, predictions: Predictions) -> None:
        """Record that the network ran on a batch of images."""


Watch = Callable[[Tensor, Predictions], None]
"""Called with images and their predictions, one row each, after they are answered."""


class Batcher:
    """A model and its queue. Belongs to one event loop."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        max_queue: int,
        max_pixels: int,
        decoders: Decoders,
        metrics: BatchMetrics | None = None,
        watch: Watch | None = None,
        issue: Issue | None = None,
    ) -> None:
        """Warm up the model, and measure its run time.

        Args:
            predictor: the model.
            max_queue: maximum number of queued images.
            max_pixels: limit on width × height of one image.
            decoders: threads for large images; all models of a process share them.
            metrics: records the batches.
            watch: called from the event loop after each batch.
            issue: returns ids for the predictions.
        """
        self._predictor = predictor
        self._card = predictor.card
        self._max_queue = max_queue
        self.max_pixels = max_pixels
        """Limit on width × height of one image."""
        self._decoders = decoders
        self._metrics = metrics
        self._watch = watch
        self._issue = issue
        self._queue: deque[Job] = deque()
        self._waiting = 0
        self._running = False
        self._overhead, self._seconds_per_image = self._warm_up()
        self._pace = 1.0  # moving average of measured / expected seconds
        self.shadow: Shadow | None = None
        """Called with every batch after it is answered."""

    @property
    def waiting(self) -> int:
        """Number of queued images, including those that are being decoded in threads."""
        return self._waiting

    def submit(self, inputs: Inputs, options: OutputOptions | None, on_result: OnResult) -> Job:
        """Put the images of a request into the queue.

        Args:
            inputs: at least one image, or uint8 `[n, height, width, channels]` of the card.
            options: how the predictions are rendered; None leaves that to the caller.
            on_result: called from the event loop with the result or the error, unless the job is
                cancelled before.

        Raises:
            QueueFullError: more than `max_queue` images would wait.
        """
        job = Job(inputs, options, on_result, time.perf_counter())
        self._check_queue(job.count)
        self._enqueue(job)
        return job

    async def preprocess(self, image: Image) -> tuple[Tensor, list[ImageWarning]]:
        """Preprocess one image; return the network's input and the warnings.

        Returns:
            uint8, `[height, width, channels]` of the card, and warnings in their order.

        Raises:
            ImageError: the image cannot be used.
            QueueFullError: too many images are waiting.
        """
        warnings: list[ImageWarning] = []

        self._check_queue(1)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            fit, spec = self._decoders.fit, self._card.input
            fitted = loop.run_in_executor(
                self._decoders.executor, fit, image, spec, self.max_pixels, warnings.append
            )
            return await fitted, warnings
        finally:
            self._waiting -= 1

    def reserved(self, image: Image) -> AbstractContextManager[None]:
        """Reserve the memory to decode an image in another process; as in `Decoders.reserved`."""
        return self._decoders.reserved(image, self._card.input, self.max_pixels)

    def _check_queue(self, count: int) -> None:
        if self._waiting + count > self._max_queue:
            expected = self._waiting * self._seconds_per_image * self._pace
            raise QueueFullError(self._max_queue, max(1, math.ceil(expected)))

    def _enqueue(self, job: Job) -> None:
        """Queue the current part of a job, after its large images are decoded."""
        self._waiting += job.count
        if has_large(job.part):
            self._decode(job)
        else:
            self._queue.append(job)
            self._start()

    def _start(self) -> None:
        if not self._running:
            self._running = True
            # On the next loop iteration, so that requests read in this one join the batch.
            asyncio.get_running_loop().call_soon(self._next)

    def _decode(self, job: Job) -> None:
        job.undecoded = True
        loop = asyncio.get_running_loop()
        fit_all, spec = self._decoders.fit_all, self._card.input
        fitted = loop.run_in_executor(self._decoders.executor, fit_all, job, spec, self.max_pixels)
        fitted.add_done_callback(lambda done: self._decoded(job, done))

    def _decoded(self, job: Job, done: "asyncio.Future[Tensor]") -> None:
        error = done.exception()
        if error is None:
            if self._metrics is not None and job.timing is not None:
                self._metrics.preprocessed(job.timing.preprocessing)
            job.part = done.result()
            self._queue.append(job)
            self._start()
        else:
            self._waiting -= job.count
            self._end(job, error if isinstance(error, Exception) else RuntimeError(str(error)))

    @staticmethod
    def _end(job: Job, outcome: Result | Exception) -> None:
        if not job.cancelled:
            job.cancelled = True
            try:
                job.on_result(outcome)
            except Exception:  # the queue must continue
                logger.exception("a result could not be delivered")

    def _next(self) -> None:
        """Run the next batch, in place or in a thread, until the queue is empty."""
        jobs = self._take()
        if not jobs:
            self._running = False
            return
        loop = asyncio.get_running_loop()
        try:
            batch = Batch(self._predictor, jobs, self.max_pixels, self._issue)
        except Exception as error:  # noqa: BLE001 - it belongs to the jobs; the queue goes on
            for job in jobs:
                self._end(job, error)
            loop.call_soon(self._next)
            return
        for job in batch.large:
            self._waiting += job.count
            self._decode(job)
        for job in reversed(batch.later):
            self._waiting += job.count
            self._queue.appendleft(job)
        if self._expected_seconds(batch.count, batch.pending) <= IN_PLACE_SECONDS:
            batch.run()
            self._settle(batch)
            loop.call_soon(self._next)
        else:
            ran = loop.run_in_executor(None, batch.run)
            ran.add_done_callback(lambda _: self._continue(batch))

    def _continue(self, batch: Batch) -> None:
        self._settle(batch)
        self._next()

    def _take(self) -> list[Job]:
        """Remove the jobs of the next batch from the queue; cancelled jobs are skipped."""
        jobs: list[Job] = []
        count = 0
        while self._queue and count + self._queue[0].count <= MAX_BATCH:
            job = self._queue.popleft()
            self._waiting -= job.count
            if not job.cancelled:
                jobs.append(job)
                count += job.count
        return jobs

    def _settle(self, batch: Batch) -> None:
        for job, outcome in batch.outcomes:
            if isinstance(outcome, Exception):
                self._end(job, outcome)
                continue
            result = job.advance(outcome)
            if result is not None:
                self._end(job, result)
            elif not job.cancelled:
                job.arrived = time.perf_counter()
                self._enqueue(job)
        if batch.predictions is not None:
            pace = batch.cpu_seconds / (self._overhead + batch.count * self._seconds_per_image)
            self._pace += _SMOOTHING * (pace - self._pace)
            if self._metrics is not None:
                if batch.preprocessing_seconds is not None:
                    self._metrics.preprocessed(batch.preprocessing_seconds)
                self._metrics.ran(batch.seconds, batch.predictions)
            if self._watch is not None and len(batch.predictions) == batch.count:
                self._watch(batch.images, batch.predictions)
            if self.shadow is not None:
                self.shadow.see(batch.images, batch.predictions)

    def _expected_seconds(self, count: int, pending: int) -> float:
        run = (self._overhead + count * self._seconds_per_image) * self._pace
        return run + pending * FITTING_SECONDS

    def _warm_up(self) -> tuple[float, float]:
        """Return seconds per run, and additional seconds per image, once memory is allocated."""
        alone, together = (self._fastest_run(count) for count in (1, _WARM_UP_BATCH))
        each = max((together - alone) / (_WARM_UP_BATCH - 1), 1e-9)
        return max(alone - each, 0.0), each

    def _fastest_run(self, count: int) -> float:
        images = np.zeros((count, *self._card.input.shape), np.uint8)
        seconds = []
        for _ in range(1 + _WARM_UP_ROUNDS):
            begun = time.thread_time()
            # Non-finite logits for an all-black image do not stop the warm-up.
            with suppress(NonFiniteLogitsError):
                Predictions.of(self._predictor.run(images), self._card)
            seconds.append(time.thread_time() - begun)
        return min(seconds[1:])
