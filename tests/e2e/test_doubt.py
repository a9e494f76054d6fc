"""Calibration, prediction sets, what is known, and the report, over a real connection."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, logsumexp, softmax

from logitserve.inference import conformal
from logitserve.inference.card import Energy, Head, LabelScaling
from logitserve_service.api.schemas import ModelDetail, PredictResponse
from tests import tiny_models
from tests.e2e.process import running
from tests.tiny_models import DIGIT_LABELS, linear_logits, png, random_picture

PNG = {"content-type": "image/png"}
TEMPERATURE = 2.0
THRESHOLD = -9.25
SETS = conformal.calibrate(np.linspace(-0.9, 0.9, 500))
PAGE = "<!doctype html><title>A report</title>"
THRESHOLDS = (0.3, 0.6)
SCALING = (LabelScaling(scale=0.5, bias=1.0), LabelScaling(scale=2.0, bias=-1.0))

Weights = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Weights]:
    models = tmp_path_factory.mktemp("models")
    made = {
        "doubtful": tiny_models.publish(
            models,
            name="doubtful",
            temperature=TEMPERATURE,
            conformal=SETS,
            energy=Energy(threshold=THRESHOLD, known_share=0.99, pictures=2000),
        ),
        "plain": tiny_models.publish(models, name="plain"),
        "many": tiny_models.publish(
            models,
            name="many",
            head=Head.SIGMOID,
            labels=("a", "b"),
            thresholds=THRESHOLDS,
            scaling=SCALING,
        ),
    }
    page = models / "doubtful/1/report/index.html"
    page.parent.mkdir()
    page.write_text(PAGE)
    return models, made


@pytest.fixture(scope="module")
def client(weights: tuple[Path, Weights]) -> Iterator[httpx.Client]:
    with (
        running("--models", str(weights[0]), "--default-model", "doubtful") as server,
        httpx.Client(base_url=server.url, timeout=30) as opened,
    ):
        yield opened


def predictions(client: httpx.Client, path: str, count: int = 20) -> list[Any]:
    pixels = [random_picture(seed).tolist() for seed in range(count)]
    response = client.post(path, json={"pixels": pixels})
    assert response.status_code == 200, response.text
    PredictResponse.model_validate_json(response.content)
    found: list[Any] = response.json()["predictions"]
    return found


def reference(weights: tuple[Path, Weights], name: str, count: int = 20) -> Any:
    return linear_logits(
        np.stack([random_picture(seed) for seed in range(count)]), weights[1][name]
    )


def probabilities(found: list[Any]) -> Any:
    return np.array([list(prediction["probabilities"].values()) for prediction in found])


@pytest.mark.parametrize("path", ["/predict", "/models/doubtful/predict"])
def test_raw_probabilities_are_given_when_asked_for(
    client: httpx.Client, weights: tuple[Path, Weights], path: str
) -> None:
    logits = reference(weights, "doubtful")
    for query, temperature in (("", TEMPERATURE), ("?calibrated=false", 1.0)):
        found = probabilities(predictions(client, path + query))
        np.testing.assert_allclose(found, softmax(logits / temperature, axis=1), atol=1e-5)


def test_the_same_labels_hold_calibrated_or_not(
    client: httpx.Client, weights: tuple[Path, Weights]
) -> None:
    logits = reference(weights, "many")
    calibrated = predictions(client, "/models/many/predict")
    raw = predictions(client, "/models/many/predict?calibrated=false")
    scaled = expit(logits * [0.5, 2.0] + [1.0, -1.0])
    np.testing.assert_allclose(probabilities(calibrated), scaled, atol=1e-5)
    np.testing.assert_allclose(probabilities(raw), expit(logits), atol=1e-5)
    assert [p["labels"] for p in raw] == [p["labels"] for p in calibrated]
    holds = scaled >= THRESHOLDS
    expected = [[n for n, h in zip("ab", row, strict=True) if h] for row in holds]
    assert [p["labels"] for p in calibrated] == expected


def test_what_is_known_is_told_wherever_the_card_can_tell(
    client: httpx.Client, weights: tuple[Path, Weights]
) -> None:
    logits = reference(weights, "doubtful")
    energies = -TEMPERATURE * logsumexp(logits / TEMPERATURE, axis=1)
    expected = (energies <= THRESHOLD).tolist()
    assert len(set(expected)) == 2
    for path in ("/predict", "/predict?calibrated=false", "/predict?coverage=0.9&top_k=1"):
        assert [prediction["known"] for prediction in predictions(client, path)] == expected
    one = client.post("/predict", content=png(random_picture(0)), headers=PNG).json()
    assert one["predictions"][0]["known"] is expected[0]  # the short path
    assert "known" not in predictions(client, "/models/plain/predict")[0]


@pytest.mark.parametrize("query", ["", "&calibrated=false", "&top_k=2"])
def test_a_set_of_labels_comes_with_the_coverage(
    client: httpx.Client, weights: tuple[Path, Weights], query: str
) -> None:
    logits = reference(weights, "doubtful") / TEMPERATURE
    by_label = conformal.scores(softmax(logits, axis=1))
    for coverage, limit in ((0.5, SETS.thresholds[0]), (0.9, SETS.thresholds[400]), (0.999, 1)):
        for prediction, scores in zip(
            predictions(client, f"/predict?coverage={coverage}{query}"), by_label, strict=True
        ):
            ranked = np.argsort(scores)
            expected = [DIGIT_LABELS[i] for i in ranked if scores[i] <= limit]
            assert prediction["set"] == expected
    assert "set" not in predictions(client, "/predict")[0]


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/predict?coverage=0.4", "coverage must be from 0.5 to 0.999; it is 0.4"),
        ("/predict?coverage=1", "coverage must be from 0.5 to 0.999"),
        ("/predict?coverage=nan", "coverage must be from 0.5 to 0.999"),
        ("/predict?coverage=much", "coverage"),
        ("/models/many/predict?coverage=0.9", "any number of its labels may hold"),
        ("/models/plain/versions/1/predict?coverage=0.9", "no conformal thresholds"),
        ("/predict?calibrated=perhaps", "calibrated"),
    ],
)
def test_what_cannot_be_given_is_refused_with_the_reason(
    client: httpx.Client, path: str, complaint: str
) -> None:
    response = client.post(path, content=png(random_picture(0)), headers=PNG)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert complaint in response.json()["detail"]


def test_the_card_says_what_stands_behind_it_without_the_table(client: httpx.Client) -> None:
    body = client.get("/models/doubtful").json()
    card = ModelDetail.model_validate(body).card
    assert card.energy == Energy(threshold=THRESHOLD, known_share=0.99, pictures=2000)
    assert body["card"]["conformal"] == {"pictures": 500}


def test_the_report_is_linked_and_loads_nothing(client: httpx.Client) -> None:
    link = client.get("/models/doubtful").json()["report"]
    assert link == "/models/doubtful/versions/1/report"
    for path in (link, "/models/doubtful/report"):
        page = client.get(path)
        assert page.text == PAGE
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_model_without_a_report_says_so(client: httpx.Client) -> None:
    assert client.get("/models/plain").json()["report"] is None
    for path in ("/models/plain/report", "/models/plain/versions/1/report"):
        missing = client.get(path)
        assert missing.status_code == 404
        assert "'plain' version 1 has no report" in missing.json()["detail"]


def test_openapi_documents_the_range_of_coverage(client: httpx.Client) -> None:
    parameters = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert schemas.keys() == {"top_k", "calibrated", "coverage"}
    assert (schemas["coverage"]["minimum"], schemas["coverage"]["maximum"]) == (0.5, 0.999)
