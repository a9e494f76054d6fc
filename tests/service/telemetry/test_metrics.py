"""What is counted of requests and runs, over workers."""

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_service.telemetry.families import CONFIDENCE, WORKERS
from logitserve_service.telemetry.metrics import Metrics
from logitserve_service.telemetry.shared_values import Row
from logitserve_service.telemetry.timing import Timing
from tests import tiny_models
from tests.service.telemetry.conftest import Read, samples

ROUTE = "/models/{name}/predict"


@pytest.fixture(params=list(Head))
def card(request: pytest.FixtureRequest) -> ModelCard:
    binary = request.param is Head.BINARY
    labels = ("no", "yes") if binary else tiny_models.DIGIT_LABELS
    matrix = tiny_models.weights(tiny_models.SPEC, 1 if binary else 10, seed=0)
    thresholds = (0.3,) * 10 if request.param is Head.SIGMOID else None
    return tiny_models.card_for(matrix, head=request.param, labels=labels, thresholds=thresholds)


def predictions(card: ModelCard, images: int) -> Predictions:
    logits = np.random.default_rng(images).normal(0, 3, (images, card.logit_count))
    return Predictions.of(logits.astype(np.float32), card)


@pytest.mark.parametrize("images", [1, 12, 13, 64])
def test_a_run_is_counted_as_one_image_after_the_other(
    metrics: Metrics, read: Read, card: ModelCard, images: int
) -> None:
    model = metrics.model(card)
    given = predictions(card, images)
    model.preprocessed(0.0003)
    model.ran(0.002, given)
    model.ran(0.002, given)
    assert read("batch_size_sum", model=card.name) == 2 * images
    assert read("inference_seconds_sum", model=card.name) == pytest.approx(0.004)
    assert read("decode_seconds_sum", model=card.name) == pytest.approx(0.0003)
    assert read("decode_seconds_count", model=card.name) == 1
    if card.head is Head.SIGMOID:
        holds = given.probabilities >= np.array(card.thresholds)
    else:
        holds = np.eye(len(card.labels), dtype=bool)[given.argmax]
    for label, count in zip(card.labels, holds.sum(axis=0), strict=True):
        labels = {"model": card.name, "version": card.version, "label": label}
        assert read("predictions_total", **labels) == 2 * count
    confidence = given.probabilities.max(axis=1)
    assert read("confidence_sum", model=card.name) == pytest.approx(2 * confidence.sum())
    for bound in CONFIDENCE.bounds:
        below = int((confidence <= bound).sum())
        assert read("confidence_bucket", model=card.name, le=str(bound)) == 2 * below


def test_the_steps_of_requests_add_up(metrics: Metrics, read: Read) -> None:
    for _ in range(2):
        metrics.spent("tiny", Timing(preprocessing=0.1, queue=0.2, inference=0.4, output=0.8))
    steps = {"queue": 0.4, "decode": 0.2, "inference": 0.8, "output": 1.6}
    for step, seconds in steps.items():
        assert read("step_seconds_total", model="tiny", step=step) == pytest.approx(seconds)


def test_strangers_cannot_make_series(metrics: Metrics, predictor: Predictor) -> None:
    metrics.model(predictor.card)
    metrics.answered(ROUTE, "none", "1", 404, 0.001)
    metrics.answered(ROUTE, "tiny", "", 404, 0.001)
    before = samples(metrics).keys()
    for number in range(50):
        metrics.answered(ROUTE, f"x{number}", "1", 404, 0.001)
        metrics.answered(ROUTE, "tiny", f"{number + 2}", 404, 0.001)
    found = samples(metrics)
    assert found.keys() == before
    for model in ("", "tiny"):
        labels = {"route": ROUTE, "model": model, "version": "", "status": "404"}
        assert found["logitserve_requests_total", frozenset(labels.items())] == 51


def test_requests_are_counted_by_version(
    metrics: Metrics, predictor: Predictor, read: Read
) -> None:
    for version, answers in (("1", 3), ("2", 2)):
        metrics.model(predictor.card.model_copy(update={"version": version}))
        for _ in range(answers):
            metrics.answered(ROUTE, "tiny", version, 504, 0.02)
    labels = {"route": ROUTE, "model": "tiny"}
    for version, answers in (("1", 3), ("2", 2)):
        assert read("requests_total", version=version, status="504", **labels) == answers
        assert read("request_seconds_count", version=version, status="5xx", **labels) == answers


def test_workers_add_up_and_counters_outlive_them(
    metrics: Metrics, read: Read, rows: list[Row]
) -> None:
    labels = {"route": ROUTE, "model": "", "version": "", "status": "200"}
    metrics.answered(ROUTE, "", "", 200, 0.001)
    for expected in (2, 3):  # the second of them takes the row of the first
        other = Metrics(rows, 1)
        other.answered(ROUTE, "", "", 200, 0.001)
        other.set(WORKERS, 1)
        assert (read("requests_total", **labels), read("workers")) == (expected, 0)
        other.row.beat()
        assert (read("requests_total", **labels), read("workers")) == (expected, 1)
        other.row.drop()
        assert (read("requests_total", **labels), read("workers")) == (expected, 0)


def test_open_metrics(metrics: Metrics) -> None:
    metrics.answered(ROUTE, "", "", 200, 0.001)
    text, content_type = metrics.exposition("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"logitserve_requests", "logitserve_request_seconds"} <= families
