"""Drift detection for each model, over the pictures of all workers.

Each worker counts features in its row of the shared memory. Once a second, each worker sums the
rows and tests the windows, whose state is shared.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from random import random
from typing import Any, Final
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from logitserve.inference import features
from logitserve.inference.card import FeatureName, Reference
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.errors import DriftUnavailableError, TooFewImagesError
from logitserve_service.monitoring.windows import BASELINE, DriftTests, Rule, WindowState
from logitserve_service.telemetry import families
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import Row
from logitserve_service.telemetry.worker_gauges import SAMPLE_SECONDS

MOST_A_SECOND: Final = 500
"""Maximum pictures per second and model that a worker counts. A picture takes 4 to 6 µs, a skipped
one under 1."""
_SERIES: Final = "drift_counts"
_TOGETHER: Final = 32
"""Pictures measured at once; one alone takes ten times as long as one in such a batch."""
_REMEMBERED: Final = 500
"""Maximum stored states, of 6 kB each, of models that are no longer served."""
_HELD_BYTES: Final = 32 * 2**10
"""Maximum size of pictures and predictions that wait to be measured together."""

logger = logging.getLogger("logitserve.drift")

Notes = Callable[[], AbstractContextManager[dict[str, Any]]]
"""Opens the state that the workers share, for changes in a block."""


class DriftDetector:
    """Counts the features of one model's pictures in this worker."""

    def __init__(self, predictor: Predictor, normal: Reference, row: Row, rule: Rule) -> None:
        self.card = card = predictor.card
        self.key = key_of(predictor)
        self.drift_tests = DriftTests(card, normal, rule)
        self.series = (_SERIES, self.key)
        values, places = row.places(self.series, self.drift_tests.bins.width)
        self._counts = np.asarray(values)[places.start : places.stop]
        held = int(np.prod(card.input.shape)) + 12 * len(card.labels)
        self._together = max(1, min(_TOGETHER, _HELD_BYTES // held))
        self._parts: list[tuple[npt.NDArray[np.uint8], Predictions]] = []
        self._held = 0
        self._seen, self._since, self._step = 0, time.monotonic(), 1

    def __call__(self, images: npt.NDArray[np.uint8], predictions: Predictions) -> None:
        """Count the pictures of a batch; small batches are collected first.

        Above `MOST_A_SECOND`, it counts a random sample.
        """
        self._seen += len(images)
        if self._step > 1:
            first = int(random() * self._step)  # noqa: S311 - it is a sample
            if first >= len(images):
                return
            images, predictions = images[first :: self._step], predictions[first :: self._step]
        self._held += len(images)
        is_full = self._held >= self._together
        # A copy, because the pictures may be a view of a large request.
        self._parts.append((images if is_full else images.copy(), predictions))
        if is_full:
            self.flush()

    def pace(self) -> None:
        """Set the sampling rate, so that at most `MOST_A_SECOND` pictures are counted."""
        seconds = time.monotonic() - self._since
        if seconds >= SAMPLE_SECONDS / 2:
            self._step = max(1, round(self._seen / seconds / MOST_A_SECOND))
            self._seen, self._since = 0, self._since + seconds

    def flush(self) -> None:
        """Count the collected pictures."""
        parts, self._parts, self._held = self._parts, [], 0
        if parts:
            images = np.concatenate([images for images, _ in parts])
            predictions = Predictions.concatenated([predictions for _, predictions in parts])
            values = features.measure(images, predictions, self.card)
            self._counts += self.drift_tests.bins.count(values)


def key_of(predictor: Predictor) -> str:
    """Return the key of a version and its file; a new file has new counts."""
    return f"{predictor.card.name}/{predictor.card.version}/{predictor.sha256[:16]}"


class Drift:
    """The detectors of a worker, and the drift state of all workers."""

    def __init__(self, metrics: Metrics, rows: Sequence[Row], notes: Notes, rule: Rule) -> None:
        self._metrics, self._rows, self._notes, self._rule = metrics, rows, notes, rule
        self._detectors: WeakValueDictionary[str, DriftDetector] = WeakValueDictionary()
        self._states: dict[str, WindowState] = {}  # detector key → its state at the last sample
        self._shown: set[tuple[str, FeatureName]] = set()

    def watch(self, predictor: Predictor) -> DriftDetector | None:
        """Watch a model while the result is referenced; None if its card has no reference."""
        normal = predictor.card.reference
        if normal is None:
            logger.warning("%s", DriftUnavailableError(predictor.card.name))
            return None
        detector = DriftDetector(predictor, normal, self._metrics.row, self._rule)
        self._detectors[detector.key] = detector
        # The counter must exist before its first increase.
        for name in detector.drift_tests.bins.of:
            self._metrics.add(families.DRIFT_ALARMS, 0, detector.card.name, name)
        return detector

    def sample(self) -> None:
        """Test the windows that are full, and update the metrics."""
        detectors = self._all()
        states = self._states = {}
        if not detectors and not self._shown:
            return
        with self._notes() as notes:
            totals, now = self._totals(detectors), time.time()
            for detector in detectors:
                state = states[detector.key] = _state(notes, detector, now)
                self._run_tests(detector, state, totals[detector.key], now)
            gone = [key for key in notes if key not in states]
            for key in gone[: len(notes) - _REMEMBERED]:
                del notes[key]
        self._show(detectors, states)

    def of(self, predictor: Predictor) -> tuple[DriftDetector, WindowState]:
        """Return the detector of a model and its current state.

        Raises:
            DriftUnavailableError: its card has no reference.
        """
        detector = self._detectors.get(key_of(predictor))
        if detector is None:
            raise DriftUnavailableError(predictor.card.name)
        self.sample()
        return detector, self._states[detector.key]

    def accept(self, predictor: Predictor, *, live: bool) -> None:
        """Set the baseline to the last pictures, or to the card's reference; alarms end.

        Raises:
            DriftUnavailableError: its card has no reference.
            TooFewImagesError: too few pictures were counted.
        """
        detector, _ = self.of(predictor)
        with self._notes() as notes:
            totals, now = self._totals([detector])[detector.key], time.time()
            accepted = detector.drift_tests.accept(
                _state(notes, detector, now), totals, now, live=live
            )
            if accepted is not None:
                notes[detector.key] = accepted
        if accepted is None:
            raise TooFewImagesError(BASELINE, detector.drift_tests.pictures(totals.tolist()))
        logger.info(
            "model %s: the drift baseline is now: %s",
            detector.card.name,
            "live" if live else "card",
        )
        self.sample()

    def _all(self) -> list[DriftDetector]:
        """Return the detectors by model, the newest version last."""
        # Not `values`, which fails while a thread adds one.
        found = filter(None, (reference() for reference in self._detectors.valuerefs()))
        return sorted(found, key=lambda detector: (detector.card.name, int(detector.card.version)))

    def _totals(self, detectors: Sequence[DriftDetector]) -> dict[str, npt.NDArray[np.int64]]:
        """Return the counts of all workers, by detector key."""
        for detector in detectors:
            detector.flush()
            detector.pace()
        totals = {detector.key: np.zeros(detector.drift_tests.bins.width) for detector in detectors}
        for row in self._rows:
            series, values = row.series(), np.asarray(row.values)
            for detector in detectors:
                if (places := series.get(detector.series)) is not None:
                    totals[detector.key] += values[places.start : places.stop]
        return {key: total.astype(np.int64) for key, total in totals.items()}

    def _run_tests(
        self,
        detector: DriftDetector,
        state: WindowState,
        totals: npt.NDArray[np.int64],
        now: float,
    ) -> None:
        before = set(state.alarms)
        for name, sentence in detector.drift_tests.run(state, totals, now):
            logger.warning("model %s: %s", detector.card.name, sentence)
            self._metrics.add(families.DRIFT_ALARMS, 1, detector.card.name, name)
        for name in before - set(state.alarms):
            logger.info("model %s: the drift alarm of %s has ended", detector.card.name, name)

    def _show(self, detectors: Sequence[DriftDetector], states: dict[str, WindowState]) -> None:
        """Set the gauges: PSI of the newest compared version, and alarms of any version.

        Gauges of models that are no longer served are set to 0.
        """
        shown: dict[tuple[str, FeatureName], tuple[float, bool]] = {}
        for detector in detectors:
            state = states[detector.key]
            for name in detector.drift_tests.bins.of:
                series = detector.card.name, name
                psi, is_on = shown.get(series, (0.0, False))
                tested = [test for test in state.tests.get(name, ()) if test is not None]
                shown[series] = tested[-1][2] if tested else psi, is_on or name in state.alarms
        for series in self._shown | shown.keys():
            psi, is_on = shown.get(series, (0.0, False))
            self._metrics.set(families.DRIFT, psi, *series)
            self._metrics.set(families.DRIFT_ALARM, is_on, *series)
        self._shown = set(shown)


def _state(notes: dict[str, Any], detector: DriftDetector, now: float) -> WindowState:
    """Return the shared state of a detector; the first worker creates it."""
    nothing = np.zeros(detector.drift_tests.bins.width, np.int64)
    known = notes.get(detector.key)
    state = notes[detector.key] = (
        WindowState.at(nothing, now) if known is None else WindowState(**known)
    )
    return state
