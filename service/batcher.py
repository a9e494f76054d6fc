"""Natural batching: a batch is whatever has arrived while the last one ran.

There is no timer, so a lone request never waits. The reply travels with the item; an item whose
client has gone is dropped when its turn comes, and an item that the network cannot answer fails
alone.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference.errors import NonFiniteLogitsError
from inference.predictor import Predictions, Predictor
from service.errors import QueueFullError

MAX_BATCH = 64
"""Pictures in one run. Larger runs gain next to nothing and let those behind wait longer: `digits`
takes 121 µs a picture at 64 and 124 at 256, `digits-mlp` 2.1 and 1.6 (`benchmarks/costs.py`)."""

IN_PLACE_SECONDS = 0.002
"""A run that is expected to take longer leaves the event loop. Going to a thread and back costs
0.05 ms (`benchmarks/costs.py`), so a shorter run is better done in place, and the loop, which
answers probes and reads other requests, is not blocked for longer than this."""

_WARM_UP_BATCH = 8
_WARM_UP_ROUNDS = 3
_SMOOTHING = 0.05
"""Weight of the newest run in the running mean of the pace."""


@dataclass(slots=True)
class Answer:
    """What comes back for an item."""

    predictions: Predictions
    batch_size: int
    queue_seconds: float
    inference_seconds: float


@dataclass(slots=True)
class _Item:
    images: npt.NDArray[np.uint8]  # [n, height, width, channels], n ≤ MAX_BATCH
    reply: asyncio.Future[Answer]
    arrived: float


@dataclass(slots=True)
class _Run:
    outcomes: Sequence[Predictions | Exception]  # of each item
    said: Sequence[Predictions | Exception]  # of all pictures, in as few parts as there were runs
    begun: float
    seconds: float
    cpu_seconds: float  # of the thread alone: what others do meanwhile does not count


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
        self.observer: Observer | None = None
        self._max_queue = max_queue
        self._queue: deque[_Item] = deque()
        self._waiting = 0  # pictures in the queue
        self._running = False
        self._overhead, self._seconds_per_picture = self._warm_up()
        self._pace = 1.0  # running mean of what runs take over what the warm-up lets expect

    def submit(self, images: npt.NDArray[np.uint8]) -> asyncio.Future[Answer]:
        """Put pictures into the queue.

        Args:
            images: uint8, `[n, height, width, channels]` of the card, n from 1 to `MAX_BATCH`.

        Raises:
            QueueFullError: they would have to wait behind more than `max_queue` others.
        """
        count = len(images)
        if self._waiting + count > self._max_queue:
            raise QueueFullError(self._max_queue, self._drain_seconds())
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Answer] = loop.create_future()
        self._queue.append(_Item(images, reply, time.perf_counter()))
        self._waiting += count
        if not self._running:
            self._running = True
            # Not at once: what else this turn of the loop has read comes along.
            loop.call_soon(self._next)
        return reply

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

    def _expected_seconds(self, count: int) -> float:
        return (self._overhead + count * self._seconds_per_picture) * self._pace

    def _next(self) -> None:
        """Run the next batch, here or in a thread, until the queue is empty."""
        items = self._take()
        if not items:
            self._running = False
            return
        loop = asyncio.get_running_loop()
        count = sum(len(item.images) for item in items)
        if self._expected_seconds(count) <= IN_PLACE_SECONDS:
            self._settle(items, self._timed(items))
            loop.call_soon(self._next)
        else:
            done = loop.run_in_executor(None, self._timed, items)
            done.add_done_callback(lambda run: self._continue(items, run))

    def _continue(
        self,
        items: list[_Item],
        run: "asyncio.Future[_Run]",
    ) -> None:
        self._settle(items, run.result())
        self._next()

    def _take(self) -> list[_Item]:
        """The items of the next batch; those whose client has gone are passed over."""
        items: list[_Item] = []
        count = 0
        while self._queue and count + len(self._queue[0].images) <= MAX_BATCH:
            item = self._queue.popleft()
            self._waiting -= len(item.images)
            if not item.reply.done():
                items.append(item)
                count += len(item.images)
        return items

    def _timed(self, items: list[_Item]) -> _Run:
        begun, cpu_begun = time.perf_counter(), time.thread_time()
        outcomes, said = self._run(items)
        cpu_seconds = time.thread_time() - cpu_begun
        return _Run(outcomes, said, begun, time.perf_counter() - begun, cpu_seconds)

    def _run(
        self, items: list[_Item]
    ) -> tuple[Sequence[Predictions | Exception], Sequence[Predictions | Exception]]:
        if len(items) == 1:
            alone = [self._outcome(items[0].images)]
            return alone, alone
        whole = self._outcome(np.concatenate([item.images for item in items]))
        if isinstance(whole, NonFiniteLogitsError):
            # Some of the pictures are to blame; the others are answered without them.
            each = [self._outcome(item.images) for item in items]
            return each, each
        if isinstance(whole, Exception):
            return [whole] * len(items), [whole]
        ends = np.cumsum([len(item.images) for item in items]).tolist()
        parts = [whole[end - len(item.images) : end] for item, end in zip(items, ends, strict=True)]
        return parts, [whole]

    def _outcome(self, images: npt.NDArray[np.uint8]) -> Predictions | Exception:
        try:
            return self.model.predict(images)
        # Whatever onnxruntime raises belongs to those who wait for this run, and not to the loop.
        except Exception as error:  # noqa: BLE001
            return error

    def _settle(
        self,
        items: list[_Item],
        run: _Run,
    ) -> None:
        count = sum(len(item.images) for item in items)
        pace = run.cpu_seconds / (self._overhead + count * self._seconds_per_picture)
        self._pace += _SMOOTHING * (pace - self._pace)
        for item, outcome in zip(items, run.outcomes, strict=True):
            if item.reply.done():  # the client went away while the batch ran
                continue
            if isinstance(outcome, Exception):
                item.reply.set_exception(outcome)
            else:
                item.reply.set_result(Answer(outcome, count, run.begun - item.arrived, run.seconds))
        if self.observer is not None:
            self.observer.ran(count, run.seconds)
            for said in run.said:
                if isinstance(said, Predictions):
                    self.observer.predicted(said)

    def _warm_up(self) -> tuple[float, float]:
        """Seconds of a run, and seconds that each picture adds to it, once memory is allocated."""
        alone, together = (self._fastest_run(count) for count in (1, _WARM_UP_BATCH))
        each = max((together - alone) / (_WARM_UP_BATCH - 1), 1e-9)
        return max(alone - each, 0.0), each

    def _fastest_run(self, count: int) -> float:
        images = np.zeros((count, *self.card.input.shape), np.uint8)
        self._outcome(images)
        seconds = []
        for _ in range(_WARM_UP_ROUNDS):
            begun = time.thread_time()
            self._outcome(images)
            seconds.append(time.thread_time() - begun)
        return min(seconds)
