"""Where images are decoded and fitted: beside the network, or in threads that give way."""

import contextlib
import os
import threading
import time
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
"""An image with more is decoded in a thread, so that the event loop is not blocked for longer than
a run in place may block it: a canvas of 280×280 takes 0.6 to 0.9 ms. A thread that gives way costs
as much again, while both want Python's lock."""
MOST_PIXELS_READ = 2 * IN_PLACE_PIXELS
"""Pixels from which on no other job is read before the event loop has had its turn."""
IN_PLACE_BYTES = 64 * 1024
"""A larger file is decoded in a thread too."""

NICENESS = 10
"""Of the threads that decode (setpriority(2), which on Linux applies to a thread): an image of 12
megapixels takes a fifth of a second (`make bench-sweeps`), and small requests must not wait for it.
With 5 their 99th percentile beside such images is 4 to 13 times what it is without them, with 10 it
is 3 to 4 times. With more, other processes on the same CPU keep these threads waiting while they
hold Python's lock."""


class Decoders:
    """The threads of a process that decode large images, and the memory that they may use."""

    def __init__(self, threads: int, max_bytes: int) -> None:
        """`threads` images are decoded at a time, in `max_bytes` of memory together."""
        self.executor = ThreadPoolExecutor(threads, "decode", initializer=give_way)
        self.memory = DecodedBytes(max_bytes)

    def fit(
        self, image: Image, spec: InputSpec, max_pixels: int, warn: Warn | None = None
    ) -> Tensor:
        """Decode and fit one image once there is memory for it; to be called in a thread.

        Returns:
            uint8, `[height, width, channels]` of the spec.

        Raises:
            ImageError: it cannot be used, or has more than `max_pixels`.
            ImageTooLargeError: it would take more memory than there is.
        """
        if not isinstance(image, bytes):
            return preprocessing.from_array(image, spec, max_pixels=max_pixels, warn=warn)
        needed = preprocessing.needed_side(spec)
        with self.memory.reserved(images.memory(image, max_pixels=max_pixels, needed=needed)):
            return preprocessing.decode(image, spec, max_pixels=max_pixels, warn=warn)

    def fit_all(self, job: Job, spec: InputSpec, max_pixels: int) -> Tensor:
        """Decode and fit the images of a job's current part, one after the other; in a thread.

        Returns:
            uint8, `[n, height, width, channels]`; its time is added to the job's, which also gets
            the rows in which nothing is written.

        Raises:
            ImageError: as `fit`; it names the image.
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
        job.arrived += seconds  # the rest is time in the queue
        return fitted


def give_way() -> None:
    """Take the calling thread behind the others of the process."""
    with contextlib.suppress(OSError):  # other systems have no priority of a thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def has_large(part: Inputs) -> bool:
    """Whether one of the images is not even looked at on the event loop."""
    if isinstance(part, np.ndarray):
        return False
    for image in part:
        if (len(image) if isinstance(image, bytes) else image.size) > IN_PLACE_BYTES:
            return True
    return False


def read(image: Image, spec: InputSpec, max_pixels: int) -> Samples:
    """A small image as samples.

    Raises:
        ImageError: it cannot be used, or has more than `max_pixels`.
    """
    if isinstance(image, bytes):
        return preprocessing.read(image, spec, max_pixels=max_pixels)
    return preprocessing.samples_of(image, max_pixels=max_pixels)
