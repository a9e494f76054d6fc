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
"""The network's input, uint8 `[n, height, width, channels]`."""

Inputs = Sequence[Image] | Tensor
"""Images to preprocess, or the network's input."""

OnResult = Callable[[Result | Exception], None]
"""Called once, from the event loop."""

MAX_BATCH = 64
"""Maximum images per run. Larger runs are hardly faster and delay other requests: `digits` takes
121 µs per image at 64 and 124 at 256, `digits-mlp` 2.1 and 1.6 (`benchmarks/costs.py`)."""


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
        """Arrival by `time.perf_counter`; from the second part on, the end of the previous part."""
        self.part: Inputs = inputs if total <= MAX_BATCH else inputs[:MAX_BATCH]
        """The images of the current part, which are queued or run."""
        self.count = min(total, MAX_BATCH)
        """Number of images in the part."""
        self.start = 0
        """Index within the request of the first image of the part."""
        self.cancelled = False
        """Whether the result is no longer needed; the queue skips the job."""
        self.is_private = False
        """Whether nothing of the request may be stored."""
        self.undecoded = False
        """Whether it waits for a thread, or for memory, to decode its first large image."""
        self.empty: list[int] = []
        """Indexes of blank images in the part, if they were decoded before the batch."""
        self.timing: Timing | None = None
        """Durations of the steps before the batch of the part."""
        self.results: list[Result] = []
        """Results of the finished parts, if there are several parts."""

    def cancel(self) -> None:
        """Cancel the request."""
        self.cancelled = True

    def expired(self, timeout_ms: int) -> ServiceError:
        """Return the error for a job that misses its deadline."""
        return (DecodersBusyError if self.undecoded else DeadlineError)(timeout_ms)

    def image_number(self, index: int) -> int | None:
        """Return the index within the request of an image of the part; None for a single image."""
        return self.start + index if self.total > 1 else None

    def advance(self, result: Result) -> Result | None:
        """Add the result of the part and begin the next; after the last part, return the whole."""
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
