"""Natural batching: a batch is whatever has arrived while the last one ran.

There is no timer, so a lone request never waits. The reply travels with the item; an item whose
client has gone is dropped when its turn comes, and an item that the network cannot answer fails
alone.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from typing import Protocol

import numpy as np

from logitserve.inference.errors import NonFiniteLogitsError
from logitserve.inference.native_png import NativePng
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.errors import QueueFullError
from logitserve_service.execution.batch import Answer, Batch, Images, Item, Reply

MAX_BATCH = 64
"""Pictures in one run. Larger runs gain next to nothing and let those behind wait longer: `digits`
takes 121 µs a picture at 64 and 124 at 256, `digits-mlp` 2.1 and 1.6 (`benchmarks/costs.py`)."""

IN_PLACE_SECONDS = 0.002
"""A run that is expected to take longer leaves the event loop. Going to a thread and back costs
0.05 ms (`benchmarks/costs.py`), so a shorter run is better done in place, and the loop, which
answers probes and reads other requests, is not blocked for longer than this."""

FINISH_SECONDS = 0.0008
"""Makes one picture of a digit fit that has the right size but is not made like MNIST: 0.8 ms for
28×28 (`benchmarks/costs.py`). One is done in place; a batch that has more leaves the event loop."""

_WARM_UP_BATCH = 8
_WARM_UP_ROUNDS = 3
_SMOOTHING = 0.05
"""Weight of the newest run in the running mean of the pace."""


class Observer(Protocol):
    """Who counts what a model does. Called from the event loop."""

    def decoded(self, seconds: float) -> None:
        """Pictures became the network's input, in this time."""

    def ran(self, batch_size: int, seconds: float) -> None:
        """A batch of pictures was run, in this time."""

    def predicted(self, predictions: Predictions) -> None:
        """A run said this of its pictures."""


class Batcher:
    """One model and the queue before it. Belongs to one event loop."""

    def __init__(self, model: Predictor, *, max_queue: int) -> None:
        """Warm the model up, and measure it.

        Args:
            model: whom to ask.
            max_queue: pictures that may wait.
        """
        self.model = model
        self.card = model.card
        self.native = NativePng(model.card.input)
        self.observer: Observer | None = None
        self._max_queue = max_queue
        self._queue: deque[Item] = deque()
        self._waiting = 0  # pictures in the queue
        self._running = False
        self._overhead, self._seconds_per_picture = self._warm_up()
        self._pace = 1.0  # running mean of what runs take over what the warm-up lets expect

    def submit(self, pictures: bytes | Images) -> asyncio.Future[Answer]:
        """Put pictures into the queue.

        Args:
            pictures: one file that `native` accepts; or uint8, `[n, height, width, channels]` of
                the card, n from 1 to `MAX_BATCH`.

        Raises:
            QueueFullError: they would have to wait behind more than `max_queue` others.
        """
        reply: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.put(pictures, 1 if isinstance(pictures, bytes) else len(pictures), reply)
        return reply

    def put(self, pictures: bytes | Images, count: int, reply: Reply) -> None:
        """`submit`, for a reply of another kind; `count` is the number of pictures.

        Raises:
            QueueFullError: they would have to wait behind more than `max_queue` others.
        """
        if self._waiting + count > self._max_queue:
            raise QueueFullError(self._max_queue, self._drain_seconds())
        self._queue.append(Item(pictures, count, reply, time.perf_counter()))
        self._waiting += count
        if not self._running:
            self._running = True
            # Not at once: what else this turn of the loop has read comes along.
            asyncio.get_running_loop().call_soon(self._next)

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return self._waiting

    @property
    def has_backlog(self) -> bool:
        """Whether more is waiting than fits into the next batch."""
        return self._waiting > MAX_BATCH

    def _drain_seconds(self) -> int:
        return max(1, math.ceil(self._waiting * self._seconds_per_picture * self._pace))

    def _expected_seconds(self, count: int, unfinished: int = 0) -> float:
        run = (self._overhead + count * self._seconds_per_picture) * self._pace
        return run + unfinished * FINISH_SECONDS

    def _next(self) -> None:
        """Run the next batch, here or in a thread, until the queue is empty."""
        items = self._take()
        if not items:
            self._running = False
            return
        loop = asyncio.get_running_loop()
        batch = Batch(self.model, self.native, items)
        if self._expected_seconds(batch.count, batch.unfinished) <= IN_PLACE_SECONDS:
            batch.run()
            self._settle(batch)
            loop.call_soon(self._next)
        else:
            done = loop.run_in_executor(None, batch.run)
            done.add_done_callback(lambda ran: self._continue(batch, ran))

    def _continue(self, batch: Batch, ran: "asyncio.Future[None]") -> None:
        ran.result()
        self._settle(batch)
        self._next()

    def _take(self) -> list[Item]:
        """The items of the next batch; those whose client has gone are passed over."""
        items: list[Item] = []
        count = 0
        while self._queue and count + self._queue[0].count <= MAX_BATCH:
            item = self._queue.popleft()
            self._waiting -= item.count
            if not item.reply.done():
                items.append(item)
                count += item.count
        return items

    def _settle(self, batch: Batch) -> None:
        if batch.runs:
            pace = batch.cpu_seconds / (self._overhead + batch.count * self._seconds_per_picture)
            self._pace += _SMOOTHING * (pace - self._pace)
        for item, outcome in batch.outcomes:
            if item.reply.done():  # the client went away while the batch ran
                continue
            if isinstance(outcome, Exception):
                item.reply.set_exception(outcome)
            else:
                item.reply.set_result(outcome)
        if self.observer is not None:
            self._report(self.observer, batch)

    @staticmethod
    def _report(observer: Observer, batch: Batch) -> None:
        if batch.has_decoded:
            observer.decoded(batch.decode_seconds)
        for run in batch.runs:
            observer.ran(len(run.predictions), run.inference_seconds)
            observer.predicted(run.predictions)

    def _warm_up(self) -> tuple[float, float]:
        """Seconds of a run, and seconds that each picture adds to it, once memory is allocated."""
        alone, together = (self._fastest_run(count) for count in (1, _WARM_UP_BATCH))
        each = max((together - alone) / (_WARM_UP_BATCH - 1), 1e-9)
        return max(alone - each, 0.0), each

    def _fastest_run(self, count: int) -> float:
        images = np.zeros((count, *self.card.input.shape), np.uint8)
        seconds = []
        for _ in range(1 + _WARM_UP_ROUNDS):
            begun = time.thread_time()
            with contextlib.suppress(NonFiniteLogitsError):  # for black only, let us hope
                self.model.predict(images)
            seconds.append(time.thread_time() - begun)
        return min(seconds[1:])
