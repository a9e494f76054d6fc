"""The use case: pictures in, predictions out. Knows no request object."""

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from anyio import to_thread

from logitserve.inference import preprocessing
from logitserve.inference.errors import ImageError, TooManyPixelsError
from logitserve.inference.picture_warnings import PictureWarning, Warn
from logitserve.inference.predictor import Predictions
from logitserve_service.errors import ClientGoneError
from logitserve_service.execution.batch import Answer
from logitserve_service.execution.batcher import MAX_BATCH, Batcher

Picture = bytes | npt.NDArray[np.uint8]
"""An encoded file, or pixels: uint8 `[h, w]` or `[h, w, channels]`."""

IN_PLACE_PIXELS = 64 * 64
"""A picture with more is decoded in a thread, so that the event loop is not blocked for longer than
a run in place may block it: this size takes 0.9 ms, 128×128 takes 1.8 (`benchmarks/costs.py`)."""
IN_PLACE_BYTES = 4 * 4 * IN_PLACE_PIXELS
"""A file with more is not taken in place either: so many pixels need a quarter of it, four bytes
each, and what else there is takes time too."""

DECODING_NICENESS = 10
"""Of the threads that decode (setpriority(2), which on Linux is of a thread): a picture of 12
megapixels takes a fifth of a second (`make bench-sweeps`), and who has sent a small one is not to
wait for it. With 5 their 99th percentile beside such pictures is 4 to 13 times what it is without
them, with 10 it is 3 to 4 times. More is dangerous: whoever shares the processor keeps these
threads waiting, with Python's lock in their hands."""

T = TypeVar("T")


@dataclass(slots=True)
class Timing:
    """Where the time of a request went, in seconds; several chunks add theirs up."""

    decode: float = 0.0
    queue: float = 0.0
    inference: float = 0.0

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Where the time of a request went that is one item of a batch."""
        return cls(answer.decode_seconds, answer.queue_seconds, answer.inference_seconds)


Departure = Callable[[], Awaitable[None]]


class Classifier:
    """Decodes pictures, asks a model in chunks, and puts the answers together."""

    def __init__(self, *, max_pixels: int) -> None:
        """Take the limit.

        Args:
            max_pixels: width × height that one picture may have.
        """
        self._max_pixels = max_pixels

    async def answered(
        self, model: Batcher, pictures: Sequence[Picture], departure: Departure
    ) -> Answer | None:
        """What `classify` says of a single picture that may be decoded with its batch, else None.

        Raises: as `classify`.
        """
        data = pictures[0]
        if len(pictures) > 1 or not isinstance(data, bytes) or not self.is_native(model, data):
            return None
        return await _unless_gone(model.submit(data), model, departure)

    def is_native(self, model: Batcher, data: bytes) -> bool:
        """Whether an encoded picture goes to the queue as it is, to be decoded with its batch."""
        native = model.native
        return native.pixels <= self._max_pixels and native.accepts(data)

    async def classify(
        self, model: Batcher, pictures: Sequence[Picture], departure: Departure
    ) -> tuple[Predictions, Timing]:
        """Ask a model about pictures.

        Many pictures are decoded and run a chunk at a time, so that neither memory nor the wait of
        others grows with their number.

        Args:
            model: whom to ask.
            pictures: at least one.
            departure: makes an awaitable that is done when the client has gone.

        Raises:
            ClientGoneError: the client went away while its pictures waited.
            ImageError: a picture cannot be used; its `picture` attribute counts from 0.
            NonFiniteLogitsError: the network has no answer.
            QueueFullError: too many others are waiting.
        """
        answer = await self.answered(model, pictures, departure)
        if answer is not None:
            return answer.predictions, Timing.of(answer)
        timing = Timing()
        parts = []
        for start in range(0, len(pictures), MAX_BATCH):
            begun = time.perf_counter()
            first = start if len(pictures) > 1 else None
            images = await self._decoded(model, pictures[start : start + MAX_BATCH], first)
            seconds = time.perf_counter() - begun
            timing.decode += seconds
            if model.observer is not None:
                model.observer.decoded(seconds)
            parts.append(await _asked(model, images, departure, timing))
        return Predictions.concatenated(parts), timing

    async def classify_tensor(
        self, model: Batcher, images: npt.NDArray[np.uint8], departure: Departure
    ) -> tuple[Predictions, Timing]:
        """Ask a model about pixels that are already what its network takes; nothing is copied.

        Args:
            model: whom to ask.
            images: uint8, `[n, height, width, channels]` of the card, n at least 1.
            departure: makes an awaitable that is done when the client has gone.

        Raises:
            ClientGoneError: the client went away while its pictures waited.
            NonFiniteLogitsError: the network has no answer.
            QueueFullError: too many others are waiting.
        """
        timing = Timing()
        parts = []
        for start in range(0, len(images), MAX_BATCH):
            chunk = images[start : start + MAX_BATCH]
            parts.append(await _asked(model, chunk, departure, timing))
        return Predictions.concatenated(parts), timing

    async def prepared(
        self, model: Batcher, picture: Picture
    ) -> tuple[npt.NDArray[np.uint8], list[PictureWarning]]:
        """A picture as the network gets it, and what its sender may not expect of it.

        Returns:
            uint8, `[height, width, channels]` of the card, and the warnings as they arose.

        Raises:
            ImageError: the picture cannot be used.
        """
        warnings: list[PictureWarning] = []
        prepare = functools.partial(self._fitted, warn=warnings.append)
        images = await _beside(prepare, model, picture, self._max_pixels)
        return images[0], warnings

    async def _decoded(
        self, model: Batcher, pictures: Sequence[Picture], first: int | None
    ) -> npt.NDArray[np.uint8]:
        """uint8, `[n, height, width, channels]`.

        `first` is the number of the first picture, None where the request has but one.
        """
        if first is None and not _is_long(pictures[0]):
            try:
                return self._fitted(model, pictures[0], min(IN_PLACE_PIXELS, self._max_pixels))
            except TooManyPixelsError:
                pass  # for the event loop; a thread takes it, up to the limit
        return await _beside(self._stacked, model, pictures, first)

    def _stacked(
        self, model: Batcher, pictures: Sequence[Picture], first: int | None
    ) -> npt.NDArray[np.uint8]:
        images = np.empty((len(pictures), *model.card.input.shape), np.uint8)
        for index, picture in enumerate(pictures):
            try:
                images[index] = self._fitted(model, picture, self._max_pixels)
            except ImageError as error:
                if first is not None:
                    error.picture = first + index
                raise
        return images

    @staticmethod
    def _fitted(
        model: Batcher, picture: Picture, max_pixels: int, warn: Warn | None = None
    ) -> npt.NDArray[np.uint8]:
        """uint8, `[1, height, width, channels]`."""
        if isinstance(picture, bytes):
            fitted = preprocessing.decode(
                picture, model.card.input, max_pixels=max_pixels, warn=warn
            )
        else:
            fitted = preprocessing.from_array(
                picture, model.card.input, max_pixels=max_pixels, warn=warn
            )
        return fitted[np.newaxis]


def _is_long(picture: Picture) -> bool:
    return isinstance(picture, bytes) and len(picture) > IN_PLACE_BYTES


async def _beside(function: Callable[..., T], *arguments: object) -> T:
    """Call it in a thread that gives way to the event loop, where both want the same processor."""

    def call() -> T:
        with contextlib.suppress(OSError):  # other systems know no priority of a thread
            thread = threading.get_native_id()
            if os.getpriority(os.PRIO_PROCESS, thread) < DECODING_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, DECODING_NICENESS)
        return function(*arguments)

    return await to_thread.run_sync(call)


async def _asked(
    model: Batcher, images: npt.NDArray[np.uint8], departure: Departure, timing: Timing
) -> Predictions:
    """What the model says of one chunk; its waiting and its run are added to the timing."""
    answer = await _unless_gone(model.submit(images), model, departure)
    timing.queue += answer.queue_seconds
    timing.inference += answer.inference_seconds
    return answer.predictions


async def _unless_gone(
    reply: asyncio.Future[Answer], model: Batcher, departure: Departure
) -> Answer:
    """Wait for the reply; where the wait is long, withdraw the pictures if the client leaves.

    Listening costs a task, which is worth it only when more than the next batch is waiting.
    """
    if not model.has_backlog:
        return await reply
    gone = asyncio.ensure_future(departure())
    either: set[asyncio.Future[Any]] = {reply, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if reply.done():
            return reply.result()
        raise ClientGoneError
    finally:
        gone.cancel()
        reply.cancel()
