"""Workers that count side by side, and compare for all of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from logitserve.inference import features
from logitserve.inference.predictor import Predictor
from logitserve_service.errors import DriftUnavailableError, TooFewImagesError
from logitserve_service.monitoring import drift as module
from logitserve_service.monitoring.drift import Drift, DriftDetector
from logitserve_service.monitoring.windows import BASELINE, Rule
from logitserve_service.repository.shared_state import SharedState
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import Row, shared_rows
from tests.service.monitoring import pictures

RULE = Rule(1_000_000, 0.02)


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    pictures.publish(tmp_path)
    return Predictor.load(tmp_path / "tiny/1/model.onnx")


class Workers:
    """Two of them, with one memory."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.state = SharedState()
        self.rows = shared_rows(3)
        self.drifts = [self.drift(number) for number in range(2)]
        self.watches = [drift.watch(predictor) for drift in self.drifts]
        for row in self.rows[:2]:
            row.beat()  # alive, so that its gauges count

    def drift(self, number: int) -> Drift:
        return Drift(Metrics(self.rows, number), self.rows, self.state.notes, RULE)

    def count(self, images: npt.NDArray[np.uint8], at_once: int = 7) -> None:
        """Let the workers count the batches in turn."""
        for turn, start in enumerate(range(0, len(images), at_once)):
            part = images[start : start + at_once]
            watch = self.watches[turn % 2]
            assert watch is not None
            watch(part, self.predictor.predict(part))

    def samples(self) -> dict[str, float]:
        return {
            f"{sample.name} {sample.labels['feature']}": sample.value
            for metric in self.drifts[1]._metrics.collect()
            for sample in metric.samples
            if metric.name.startswith("logitserve_drift")
        }


@pytest.fixture
def workers(predictor: Predictor) -> Workers:
    return Workers(predictor)


def totals(workers: Workers) -> npt.NDArray[np.int64]:
    watch = workers.watches[0]
    assert watch is not None
    for each in workers.drifts:
        each.sample()
    return workers.drifts[0]._totals([watch])[watch.key]


@pytest.mark.parametrize("at_once", [1, 7, 64, 100])
def test_the_counts_of_all_workers_are_those_of_all_pictures(
    workers: Workers, at_once: int
) -> None:
    images = pictures.clean(500, seed=1)
    workers.count(images, at_once)
    predictor = workers.predictor
    watch = workers.watches[0]
    assert watch is not None
    values = features.measure(images, predictor.predict(images), predictor.card)
    assert totals(workers).tolist() == watch.drift_tests.bins.count(values).tolist()


def test_what_waits_for_other_pictures_is_no_part_of_a_request(workers: Workers) -> None:
    watch = workers.watches[0]
    assert watch is not None
    body = pictures.clean(64, seed=1)
    watch(body[:3], workers.predictor.predict(body[:3]))
    body[:] = 0
    for each in workers.drifts:
        each.sample()
    values = features.measure(
        clean := pictures.clean(64, seed=1)[:3],
        workers.predictor.predict(clean),
        workers.predictor.card,
    )
    assert totals(workers).tolist() == watch.drift_tests.bins.count(values).tolist()


def test_an_alarm_begins_and_ends_in_all_workers(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = workers.drifts
    workers.count(pictures.clean(1000, seed=1))
    one.sample()
    assert other.of(workers.predictor)[1].alarms == {}
    assert set(workers.samples().values()) != {0.0}
    assert workers.samples()["logitserve_drift_alarm sharpness"] == 0

    workers.count(pictures.blurred(600, seed=2))
    one.sample()
    one.sample()  # says it once
    (line,) = [record.message for record in caplog.records if "sharpness" in record.message]
    assert line.startswith("model tiny: sharpness fell: ")
    assert "sharpness" in other.of(workers.predictor)[1].alarms
    found = workers.samples()
    assert found["logitserve_drift_alarm sharpness"] == 1
    assert found["logitserve_drift_alarms_total sharpness"] == 1

    for seed in range(4):
        workers.count(pictures.clean(200, seed=3 + seed), at_once=100)
        other.sample()
    assert "sharpness" not in one.of(workers.predictor)[1].alarms
    assert workers.samples()["logitserve_drift_alarm sharpness"] == 0


def test_a_baseline_holds_in_all_workers_and_for_a_new_one(workers: Workers) -> None:
    one, other = workers.drifts
    workers.count(pictures.blurred(BASELINE - 500, seed=1), at_once=100)
    with pytest.raises(TooFewImagesError, match=f"needs {BASELINE} images.*only 1500 were counted"):
        one.accept(workers.predictor, live=True)
    other.sample()
    workers.count(pictures.blurred(500, seed=2), at_once=100)
    other.sample()
    one.accept(workers.predictor, live=True)
    late = workers.drift(2)
    kept = late.watch(workers.predictor)
    assert kept is not None
    for drift in (one, other, late):
        _, state = drift.of(workers.predictor)
        assert (state.alarms, state.normal is None) == ({}, False)
    other.accept(workers.predictor, live=False)
    assert one.of(workers.predictor)[1].normal is None


def test_of_very_many_pictures_each_is_counted_with_the_same_probability(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = workers.watches[0]
    assert watch is not None
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    normal = workers.predictor.card.reference
    assert normal is not None
    fast = DriftDetector(workers.predictor, normal, workers.rows[2], RULE)
    images = pictures.clean(64, seed=1)
    said = workers.predictor.predict(images)
    for _ in range(80):
        fast(images, said)
    fast.flush()
    assert fast._counts.sum() == 80 * 64 * len(fast.drift_tests.bins.of)  # the first second
    now[0] = 1.0
    fast.pace()  # 5120 a second: one in ten
    before = fast._counts.copy()
    for _ in range(400):
        fast(images[:1], said[:1])
        fast(images, said)
    fast.flush()
    counted = (fast._counts - before).sum() / len(fast.drift_tests.bins.of)
    assert counted == pytest.approx(400 * 6.5, rel=0.1)


def test_a_model_without_a_reference_is_not_watched(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures.publish(tmp_path, reference=None)
    predictor = Predictor.load(tmp_path / "tiny/1/model.onnx")
    workers = Workers(predictor)
    assert workers.watches == [None, None]
    with pytest.raises(DriftUnavailableError, match="`logitserve calibrate tiny`"):
        workers.drifts[0].of(predictor)
    assert "no reference" in caplog.text
    workers.drifts[0].sample()
    assert workers.samples() == {}


def test_the_alarm_of_a_model_that_is_gone_ends(workers: Workers) -> None:
    workers.count(pictures.blurred(500, seed=2))
    workers.drifts[0].sample()
    assert workers.samples()["logitserve_drift_alarm sharpness"] == 1
    workers.watches.clear()
    for drift in workers.drifts:
        drift.sample()
    assert workers.samples()["logitserve_drift_alarm sharpness"] == 0


def test_ladders_of_models_that_are_gone_are_forgotten_in_the_end(predictor: Predictor) -> None:
    noted: dict[str, Any] = {f"old/{number}/": {"starts": []} for number in range(600)}

    @contextmanager
    def notes() -> Iterator[dict[str, Any]]:
        yield noted

    rows: list[Row] = shared_rows(1)
    drift = Drift(Metrics(rows), rows, notes, RULE)
    watch = drift.watch(predictor)
    assert watch is not None
    drift.sample()
    assert len(noted) == module._REMEMBERED
    assert {watch.key, "old/599/"} <= noted.keys()
