"""One batch: the current parts of several jobs, each of which gets a result or an error."""

import time
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import preprocessing
from logitserve.inference.card import Fit
from logitserve.inference.errors import ImageError, NonFiniteLogitsError, TooManyPixelsError
from logitserve.inference.images import Samples
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.rendering import OutputOptions, render
from logitserve_service.execution.job import Job, Tensor
from logitserve_service.execution.preprocessing import IN_PLACE_PIXELS, MOST_PIXELS_READ, read
from logitserve_service.execution.result import Result
from logitserve_service.telemetry.timing import Timing

Outcome = tuple[Job, Result | Exception]
Issue = Callable[[Predictions, Tensor, Collection[int]], list[str]]
"""Returns ids for the predictions of a batch. Its other arguments are the network's input and the
rows that must not be stored. It may be called in a thread."""
_NO_IMAGES: Final[Tensor] = np.empty(0, np.uint8)


class Batch:
    """Jobs that are run together."""

    def __init__(
        self,
        predictor: Predictor,
        jobs: Sequence[Job],
        max_pixels: int,
        issue: Issue | None = None,
    ) -> None:
        """Decode the encoded images; one that cannot be decoded fails only its own job.

        Args:
            predictor: the model.
            jobs: with at most `MAX_BATCH` images together, none of them large by `has_large`.
            max_pixels: limit on width × height of one image.
            issue: returns ids for the predictions; None: they have no ids.
        """
        self.begun = time.perf_counter()
        self.seconds = 0.0
        """Run time of the network and its head."""
        self.cpu_seconds = 0.0
        """CPU time of the thread for the same; it excludes other threads."""
        self.preprocessing_seconds: float | None = None
        """None if all jobs have tensors."""
        self.predictions: Predictions | None = None
        self.outcomes: list[Outcome] = []
        self.large: list[Job] = []
        """Jobs left out of the batch because an image is too large for the event loop."""
        self.later: Sequence[Job] = ()
        """Jobs left out of the batch because the jobs before them reached the limit of pixels."""
        self._predictor = predictor
        self._issue = issue
        self._jobs: list[Job] = []  # in the order of their images
        self._samples: list[Samples] = []
        self._pixels = 0  # decoded so far
        self._empty: list[int] = []
        tensors = self._read(jobs, max_pixels)
        self._images: Tensor = _NO_IMAGES
        self._pending: list[int] = []
        if self._samples:
            images, self._pending = preprocessing.stack(self._samples, predictor.card.input)
            tensors.insert(0, images)
        if tensors:  # a single tensor is not copied
            self._images = tensors[0] if len(tensors) == 1 else np.concatenate(tensors)

    def _read(self, jobs: Sequence[Job], max_pixels: int) -> list[Tensor]:
        """Decode the images of the jobs, and order the jobs that have tensors last."""
        limit = min(IN_PLACE_PIXELS, max_pixels)
        tensors: list[Tensor] = []
        with_tensors: list[Job] = []
        for position, job in enumerate(jobs):
            if self._pixels > MOST_PIXELS_READ:
                self.later = jobs[position:]
                break
            if isinstance(job.part, np.ndarray):
                tensors.append(job.part)
                with_tensors.append(job)
                continue
            samples = self._samples_of(job, limit, max_pixels)
            if samples is not None:
                self._samples += samples
                self._jobs.append(job)
        self._jobs += with_tensors
        return tensors

    def _samples_of(self, job: Job, limit: int, max_pixels: int) -> list[Samples] | None:
        """Decode the images of a job; return None if it failed or has a large image."""
        samples: list[Samples] = []
        spec = self._predictor.card.input
        most = self._pixels + MOST_PIXELS_READ
        try:
            for image in job.part:
                if self._pixels > most:
                    self.large.append(job)
                    return None
                samples.append(sample := read(image, spec, limit))
                self._pixels += sample.shape[0] * sample.shape[1]
        except TooManyPixelsError as error:
            if limit < max_pixels:
                self.large.append(job)
            else:
                self._fail(job, len(samples), error)
        except Exception as error:  # noqa: BLE001 - it is this job's, whatever it is
            self._fail(job, len(samples), error)
        else:
            return samples
        return None

    def _fail(self, job: Job, index: int, error: Exception) -> None:
        if isinstance(error, ImageError):
            error.image = job.image_number(index)
        self.outcomes.append((job, error))

    @property
    def count(self) -> int:
        """Number of images in the batch."""
        return len(self._images)

    @property
    def images(self) -> Tensor:
        """The network's input, uint8 `[n, height, width, channels]`."""
        return self._images

    @property
    def pending(self) -> int:
        """Number of images that still have to be fitted."""
        return len(self._pending)

    def run(self) -> None:
        """Fit the pending images, run the network and render; may be called in a thread."""
        if not self._jobs:
            return
        try:
            spec = self._predictor.card.input
            if self._pending:
                sources = [image for job in self._jobs for image in job.part]
                self._empty = preprocessing.finish(
                    self._images, self._samples, self._pending, spec, sources
                )
            if self._samples:
                self.preprocessing_seconds = time.perf_counter() - self.begun
            begun, cpu_begun = time.perf_counter(), time.thread_time()
            jobs, predictions = self._predict()
            self.seconds = time.perf_counter() - begun
            self.cpu_seconds = time.thread_time() - cpu_begun
            if jobs:
                self.predictions = predictions
                self._split(jobs, predictions)
        # Any error becomes the outcome of the jobs, which would otherwise wait forever.
        except Exception as error:  # noqa: BLE001
            failed = {id(job) for job, _ in self.outcomes}
            self.outcomes += [(job, error) for job in self._jobs if id(job) not in failed]

    def _predict(self) -> tuple[list[Job], Predictions]:
        """Return the jobs with finite logits, and their predictions; the other jobs fail."""
        logits = self._predictor.run(self._images)
        odd = self._odd()
        try:
            return self._jobs, Predictions.of(logits, self._predictor.card, odd)
        except NonFiniteLogitsError as error:
            bad = set(error.rows)
        kept: list[Job] = []
        rows: list[int] = []
        for job, part in zip(self._jobs, _rows(self._jobs), strict=True):
            rows_of_job = range(part.start, part.stop)
            numbers = [job.image_number(row - part.start) for row in rows_of_job if row in bad]
            if numbers:
                named = [number for number in numbers if number is not None]
                self.outcomes.append((job, NonFiniteLogitsError(named)))
            else:
                kept.append(job)
                rows += rows_of_job
        self._images = self._images[rows]
        odd = None if odd is None else odd[rows]
        return kept, Predictions.of(logits[rows], self._predictor.card, odd)

    def _odd(self) -> npt.NDArray[np.bool_] | None:
        """Return which images are unknown by their ink; None if no image needs the test."""
        first_sent = len(self._samples)
        card = self._predictor.card
        if card.input.fit is Fit.DIGIT and not self._pending and first_sent == len(self._images):
            return None
        fitted, empty = list(self._pending), list(self._empty)
        if first_sent < len(self._images):
            for job, rows in zip(self._jobs, _rows(self._jobs), strict=True):
                if isinstance(job.part, np.ndarray) and not isinstance(job.inputs, np.ndarray):
                    fitted += range(rows.start, rows.stop)  # by `execution.preprocessing.prepare`
                    empty += [rows.start + row for row in job.empty]
        prepared = preprocessing.Prepared(self._images, fitted, empty)
        return self._predictor.odd(prepared, first_sent)

    def _split(self, jobs: Sequence[Job], predictions: Predictions) -> None:
        """Give each job its part of the predictions, rendered with its options."""
        card, seconds, begun = self._predictor.card, self.seconds, self.begun
        preprocessing_seconds = self.preprocessing_seconds or 0.0
        rendering = time.perf_counter()
        rendered = self._render(jobs, predictions)
        ids = None if self._issue is None else self._issued(self._issue, jobs, predictions)
        output = time.perf_counter() - rendering
        start = 0
        for job in jobs:
            rows = slice(start, start + job.count)
            start = rows.stop
            decoded = 0.0 if isinstance(job.part, np.ndarray) else preprocessing_seconds
            timing = Timing(decoded, begun - job.arrived, seconds, output)
            lines = None if job.options is None else rendered[job.options][rows]
            result = Result(card, predictions, lines, timing, rows)
            if ids is not None:
                result.ids = ids[rows]
                for line, identity in zip(lines or (), result.ids, strict=False):
                    line["id"] = identity
            self.outcomes.append((job, result))

    def _issued(self, issue: Issue, jobs: Sequence[Job], predictions: Predictions) -> list[str]:
        rows = zip(jobs, _rows(jobs), strict=True)
        private = [range(of.start, of.stop) for job, of in rows if job.is_private]
        return issue(predictions, self._images, set(chain(*private)) if private else ())

    def _render(
        self, jobs: Sequence[Job], predictions: Predictions
    ) -> dict[OutputOptions, list[Any]]:
        """Return options → one row per image, rendered only for the jobs with these options."""
        by_options: dict[OutputOptions, list[slice]] = {}
        for job, rows in zip(jobs, _rows(jobs), strict=True):
            if job.options is not None:
                by_options.setdefault(job.options, []).append(rows)
        card = self._predictor.card
        if len(by_options) == 1 and all(job.options is not None for job in jobs):
            (options,) = by_options
            return {options: render(card, predictions, options)}
        rendered: dict[OutputOptions, list[Any]] = {}
        for options, parts in by_options.items():
            chosen = np.r_[*parts]
            lines: list[Any] = [None] * len(predictions)
            for row, line in zip(chosen, render(card, predictions[chosen], options), strict=True):
                lines[row] = line
            rendered[options] = lines
        return rendered


def _rows(jobs: Sequence[Job]) -> list[slice]:
    """Return the rows of each job in the batch."""
    rows = []
    begin = 0
    for job in jobs:
        rows.append(slice(begin, begin + job.count))
        begin += job.count
    return rows
