"""One batch: the pictures of several requests in, an answer to each out."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import ModelCard
from logitserve.inference.errors import NonFiniteLogitsError
from logitserve.inference.native_png import NativePng
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.rendering import render

Images = npt.NDArray[np.uint8]
"""`[n, height, width, channels]`: exactly what the network takes."""


class Run:
    """What one run of the network said to all whose pictures were in it."""

    __slots__ = ("_rendered", "card", "inference_seconds", "predictions")

    def __init__(self, card: ModelCard, predictions: Predictions, inference_seconds: float) -> None:
        self.card = card
        self._rendered: list[dict[str, Any]] | None = None
        self.predictions = predictions
        self.inference_seconds = inference_seconds

    @property
    def rendered(self) -> list[dict[str, Any]]:
        """The predictions as `render` gives them; made once for all who ask."""
        if self._rendered is None:
            self._rendered = render(self.card, self.predictions)
        return self._rendered


@dataclass(slots=True)
class Answer:
    """What comes back for an item."""

    run: Run
    part: slice
    """Where its pictures stand in the run."""
    decode_seconds: float
    queue_seconds: float

    @property
    def predictions(self) -> Predictions:
        """Of its pictures alone."""
        return self.run.predictions[self.part]

    @property
    def rendered(self) -> list[dict[str, Any]]:
        """The same, as `render` gives them."""
        return self.run.rendered[self.part]

    @property
    def inference_seconds(self) -> float:
        """Of the whole run."""
        return self.run.inference_seconds

    @property
    def batch_size(self) -> int:
        """Pictures in the whole run."""
        return len(self.run.predictions)


class Reply(Protocol):
    """Where an answer goes; a future is one."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Answer, /) -> None:
        """Hand over the answer."""

    def set_exception(self, exception: Exception, /) -> None:
        """Hand over what went wrong."""


@dataclass(slots=True)
class Item:
    """The pictures of one request, and where its answer goes."""

    pictures: bytes | Images
    """One file that `NativePng` accepts, or pixels."""
    count: int
    reply: Reply
    arrived: float


class Batch:
    """Items that are answered together."""

    def __init__(self, model: Predictor, native: NativePng, items: Sequence[Item]) -> None:
        """Decode what is encoded; a picture that cannot be decoded fails alone."""
        self.begun = time.perf_counter()
        self.decode_seconds = 0.0
        self.cpu_seconds = 0.0  # of the runs, in their thread: what others do does not count
        self.outcomes: list[tuple[Item, Answer | Exception]] = []
        self.runs: list[Run] = []
        self._model = model
        self._native = native
        self._items: list[Item] = []  # in the order of their pictures
        samples: list[Images] = []
        pixels: list[Images] = []
        others: list[Item] = []
        for item in items:
            if not isinstance(item.pictures, bytes):
                pixels.append(item.pictures)
                others.append(item)
                continue
            try:
                samples.append(native.decode(item.pictures))
            except Exception as error:  # noqa: BLE001 - it is this picture's, whatever it is
                self.outcomes.append((item, error))
            else:
                self._items.append(item)
        self._decoded = len(samples)
        decoded = native.stacked(samples)
        self._unfinished = native.unfinished(decoded)
        self._images = _joined(decoded, pixels)
        self._items += others

    @property
    def has_decoded(self) -> bool:
        """Whether some of the pictures came encoded."""
        return self._decoded > 0

    @property
    def count(self) -> int:
        """Pictures that wait for the run."""
        return len(self._images)

    @property
    def unfinished(self) -> int:
        """How many of those have yet to be made fit."""
        return len(self._unfinished)

    def run(self) -> None:
        """Make fit what does not yet, and ask the network; may be done in a thread."""
        if not self._items:
            return
        try:
            self._native.finish(self._images, self._unfinished)
        except Exception as error:  # noqa: BLE001 - else those who wait would wait for ever
            self.outcomes += [(item, error) for item in self._items]
            return
        self.decode_seconds = time.perf_counter() - self.begun
        cpu_begun = time.thread_time()
        self._ask(self._items, self._images)
        self.cpu_seconds = time.thread_time() - cpu_begun

    def _ask(self, items: Sequence[Item], images: Images) -> None:
        begun = time.perf_counter()
        try:
            predictions = self._model.predict(images)
        # Whatever onnxruntime raises belongs to those who wait for this run, and not to the loop.
        except Exception as error:  # noqa: BLE001
            if isinstance(error, NonFiniteLogitsError) and len(items) > 1:
                # Some of the pictures are to blame; the others are answered without them.
                for item, part in zip(items, _parts(items), strict=True):
                    self._ask([item], images[part])
            else:
                self.outcomes += [(item, error) for item in items]
            return
        run = Run(self._model.card, predictions, time.perf_counter() - begun)
        self.runs.append(run)
        for item, part in zip(items, _parts(items), strict=True):
            waited = self.begun - item.arrived
            self.outcomes.append((item, Answer(run, part, self.decode_seconds, waited)))


def _parts(items: Sequence[Item]) -> Iterator[slice]:
    """Where the pictures of each stand."""
    begin = 0
    for item in items:
        yield slice(begin, begin + item.count)
        begin += item.count


def _joined(decoded: Images, given: Sequence[Images]) -> Images:
    if not given:
        return decoded
    if len(given) == 1 and not len(decoded):
        return given[0]  # not copied
    return np.concatenate([decoded, *given])
