"""Decode and fit images: on the event loop, or in threads of low priority."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from logitserve.inference import images, preprocessing
from logitserve.inference.card import Fit, InputSpec
from logitserve.inference.errors import ImageError
from logitserve.inference.image_warnings import NOTHING_WRITTEN, ImageWarning, Warn
from logitserve.inference.images import Samples
from logitserve_service.errors import ImageTooLargeError
from logitserve_service.execution.job import Image, Inputs, Job, Tensor
from logitserve_service.execution.memory import DecodedBytes
from logitserve_service.telemetry.timing import Timing

IN_PLACE_PIXELS = 320 * 320
"""Larger images are decoded in a thread, so that the event loop is not blocked for longer than
`IN_PLACE_SECONDS`: a canvas of 280×280 takes 0.3 to 0.5 ms. A low-priority thread costs as much
again, because of contention for Python's global lock."""
MOST_PIXELS_READ = 2 * IN_PLACE_PIXELS
"""After this many pixels, no other job is decoded before control returns to the event loop."""
IN_PLACE_BYTES = 64 * 1024
"""Larger files are decoded in a thread too."""

NICENESS = 10
"""Niceness of the decoding threads (setpriority(2), which on Linux applies to a thread). An image
of 12 megapixels takes a fifth of a second (`make bench-sweeps`), and small requests must not wait
for it. With 5, their 99th percentile beside such images is 4 to 13 times the one without them, with
10 it is 3 to 4 times. With more, other processes on the same CPU preempt these threads while they
hold Python's global lock."""


class Decoders:
    """The threads of a process that decode large images, and the memory that they may use."""

    def __init__(self, threads: int, max_bytes: int) -> None:
        """Decode up to `threads` images at a time, within `max_bytes` of memory in total."""
        self.executor = ThreadPoolExecutor(threads, "decode", initializer=give_way)
        self.memory = DecodedBytes(max_bytes)

    def fit(
        self, image: Image, spec: InputSpec, max_pixels: int, warn: Warn | None = None
    ) -> Tensor:
        """Decode and fit one image once there is memory for it; to be called in a thread.

        Returns:
            uint8, `[height, width, channels]` of the spec.

        Raises:
            ImageError: the image cannot be used, or has more than `max_pixels`.
            ImageTooLargeError: decoding would exceed the memory limit.
        """
        if not isinstance(image, bytes):
            return preprocessing.from_array(image, spec, max_pixels=max_pixels, warn=warn)
        with self.reserved(image, spec, max_pixels):
            return preprocessing.decode(image, spec, max_pixels=max_pixels, warn=warn)

    @contextlib.contextmanager
    def reserved(self, image: Image, spec: InputSpec, max_pixels: int) -> Iterator[None]:
        """Wait for the memory that decoding takes, and reserve it; to be called in a thread.

        Raises:
            ImageError: the image cannot be used, or has more than `max_pixels`.
            ImageTooLargeError: decoding would exceed the memory limit.
        """
        size = 0
        if isinstance(image, bytes):
            needed = preprocessing.needed_side(spec)
            size = images.memory(image, max_pixels=max_pixels, needed=needed)
        with self.memory.reserved(size):
            yield

    def fit_all(self, job: Job, spec: InputSpec, max_pixels: int) -> Tensor:
        """Decode and fit the images of a job's part in sequence; to be called in a thread.

        Returns:
            uint8, `[n, height, width, channels]`; the job's `timing` and `empty` are updated.

        Raises:
            ImageError: as in `fit`; the error contains the index of the image.
        """
        begun = time.perf_counter()
        fitted = np.empty((job.count, *spec.shape), np.uint8)
        job.empty = empty = []
        for index, image in enumerate(job.part):
            if job.cancelled:
                break
            warnings: list[ImageWarning] = []
            try:
                fitted[index] = self.fit(image, spec, max_pixels, warnings.append)
            except (ImageError, ImageTooLargeError) as error:
                error.image = job.image_number(index)
                raise
            job.undecoded = False
            if spec.fit is Fit.DIGIT and not NOTHING_WRITTEN.isdisjoint(warnings):
                empty.append(index)
        job.timing = job.timing or Timing()
        seconds = time.perf_counter() - begun
        job.timing.preprocessing += seconds
        job.arrived += seconds  # the remainder counts as queue time
        return fitted


def give_way(niceness: int = NICENESS) -> None:
    """Lower the priority of the calling thread."""
    with contextlib.suppress(OSError):  # other systems have no thread priorities
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def has_large(part: Inputs) -> bool:
    """Return whether an image is too large to be opened on the event loop."""
    if isinstance(part, np.ndarray):
        return False
    for image in part:
        if (len(image) if isinstance(image, bytes) else image.size) > IN_PLACE_BYTES:
            return True
    return False


def read(image: Image, spec: InputSpec, max_pixels: int) -> Samples:
    """Decode a small image to samples.

    Raises:
        ImageError: it cannot be used, or has more than `max_pixels`.
    """
    if isinstance(image, bytes):
        return preprocessing.read(image, spec, max_pixels=max_pixels)
    return preprocessing.samples_of(image, max_pixels=max_pixels)
