"""A request in the queue of a model."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from logitserve.inference.predictor import Predictions
from logitserve.inference.rendering import OutputOptions
from logitserve_service.errors import DeadlineError, DecodersBusyError, ServiceError
from logitserve_service.execution.result import Result
from logitserve_service.telemetry.timing import Timing

Image = bytes | npt.NDArray[np.uint8]
"""An encoded file, or pixels: uint8 `[h, w]` or `[h, w, channels]`, of any size."""

Tensor = npt.NDArray[np.uint8]
"""`[n, height, width, channels]`: what the network takes."""

Inputs = Sequence[Image] | Tensor
"""Images to preprocess, or the network's own input."""

OnResult = Callable[[Result | Exception], None]
"""Called once, from the event loop."""

MAX_BATCH = 64
"""Images in one run. Larger runs gain next to nothing and let others wait longer: `digits` takes
121 µs an image at 64 and 124 at 256, `digits-mlp` 2.1 and 1.6 (`benchmarks/costs.py`)."""


class Job:
    """The images of one request on their way through the queue, at most `MAX_BATCH` at a time."""

    __slots__ = (
        "arrived",
        "cancelled",
        "count",
        "empty",
        "inputs",
        "is_private",
        "on_result",
        "options",
        "part",
        "results",
        "start",
        "timing",
        "total",
        "undecoded",
    )

    def __init__(
        self, inputs: Inputs, options: OutputOptions | None, on_result: OnResult, arrived: float
    ) -> None:
        self.inputs = inputs
        self.total = total = len(inputs)
        self.options = options
        self.on_result = on_result
        self.arrived = arrived
        """By `time.perf_counter`; from the second part on, when the part before was done."""
        self.part: Inputs = inputs if total <= MAX_BATCH else inputs[:MAX_BATCH]
        """The images that are queued or run now."""
        self.count = min(total, MAX_BATCH)
        """How many these are."""
        self.start = 0
        """The first of them within the request."""
        self.cancelled = False
        """Whether the result is not needed any more; the queue passes over it."""
        self.is_private = False
        """Whether nothing of it may be kept."""
        self.undecoded = False
        """Whether it waits for a thread, or for memory, to decode its first image."""
        self.empty: list[int] = []
        """Of the part, images in which nothing is written; of those that were decoded before."""
        self.timing: Timing | None = None
        """Of what was done before the batch of the part."""
        self.results: list[Result] = []
        """Of the parts that are done, where there are several."""

    def cancel(self) -> None:
        """Withdraw the request."""
        self.cancelled = True

    def expired(self, timeout_ms: int) -> ServiceError:
        """The error of a job that is not done at its deadline."""
        return (DecodersBusyError if self.undecoded else DeadlineError)(timeout_ms)

    def image_number(self, index: int) -> int | None:
        """Number within the request of an image of the part; None for a single image."""
        return self.start + index if self.total > 1 else None

    def advance(self, result: Result) -> Result | None:
        """Keep the result of the part, and go on to the next; after the last the whole result."""
        if self.timing is not None:
            result.timing.add(self.timing)
        if self.count == self.total:
            return result
        self.timing = result.timing
        self.results.append(result)
        self.start += self.count
        if self.start == self.total:
            return self._joined()
        self.part = self.inputs[self.start : self.start + MAX_BATCH]
        self.count = len(self.part)
        return None

    def _joined(self) -> Result:
        rendered = [one for result in self.results for one in result.rendered or ()]
        ids = [one for result in self.results for one in result.ids or ()]
        return Result(
            self.results[0].card,
            Predictions.concatenated([result.predictions for result in self.results]),
            None if self.options is None else rendered,
            self.results[-1].timing,
            ids=ids or None,
        )
