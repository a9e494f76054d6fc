"""`top_k`, `coverage` and `calibrated`, what is known, and the report of a model."""

from typing import Any
from urllib.parse import urljoin

import httpx
import numpy as np
import pytest
from scipy.special import expit, logsumexp, softmax

from logitserve.inference import conformal
from logitserve_service.api.schemas import ModelDetail
from tests.e2e.conftest import ENERGY, REPORT, SCALING, SETS, TEMPERATURE, Weights
from tests.e2e.process import Server
from tests.forms import OWN_FORMS, Ask, Form, predictions
from tests.tiny_models import DIGIT_LABELS, linear_logits, random_picture

COUNT = 20
IMAGES = [random_picture(seed) for seed in range(COUNT)]

each_own_form = pytest.mark.parametrize("form", OWN_FORMS, ids=str)


def asked(server: Server, form: Form, query: str = "", model: str = "doubtful") -> list[Any]:
    """The predictions for `IMAGES`."""
    requests = [IMAGES] if form.many else [[image] for image in IMAGES]
    replies = [form.send(server, Ask(images, model=model, query=query)) for images in requests]
    return [found for reply in replies for found in predictions(reply)]


def probabilities(found: list[Any]) -> Any:
    return np.array([list(prediction["probabilities"].values()) for prediction in found])


@pytest.fixture
def logits(weights: Weights) -> Any:
    return linear_logits(np.stack(IMAGES), weights["doubtful/1"])


@each_own_form
def test_raw_probabilities_are_given_when_asked_for(
    server: Server, logits: Any, form: Form
) -> None:
    for query, temperature in (("", TEMPERATURE), ("calibrated=false", 1.0)):
        found = probabilities(asked(server, form, query))
        np.testing.assert_allclose(found, softmax(logits / temperature, axis=1), atol=1e-5)


@each_own_form
def test_the_same_labels_hold_calibrated_or_not(
    server: Server, weights: Weights, form: Form
) -> None:
    logits = linear_logits(np.stack(IMAGES), weights["scaled/1"])
    calibrated = asked(server, form, model="scaled")
    raw = asked(server, form, "calibrated=false", model="scaled")
    scaled = expit(
        logits * [scaling.scale for scaling in SCALING] + [scaling.bias for scaling in SCALING]
    )
    np.testing.assert_allclose(probabilities(calibrated), scaled, atol=1e-5)
    np.testing.assert_allclose(probabilities(raw), expit(logits), atol=1e-5)
    expected = [
        [n for n, p, t in zip("ab", row, (0.3, 0.6), strict=True) if p >= t] for row in scaled
    ]
    assert [found["labels"] for found in calibrated] == expected
    assert [found["labels"] for found in raw] == expected


@each_own_form
def test_what_is_known_is_told_wherever_the_card_can_tell(
    server: Server, logits: Any, form: Form
) -> None:
    energies = -TEMPERATURE * logsumexp(logits / TEMPERATURE, axis=1)
    expected = (energies <= ENERGY.threshold).tolist()
    assert len(set(expected)) == 2
    for query in ("", "calibrated=false", "coverage=0.9&top_k=1"):
        assert [found["known"] for found in asked(server, form, query)] == expected


@each_own_form
@pytest.mark.parametrize("query", ["", "&calibrated=false", "&top_k=2"])
def test_a_set_of_labels_comes_with_the_coverage(
    server: Server, logits: Any, form: Form, query: str
) -> None:
    by_label = conformal.scores(softmax(logits / TEMPERATURE, axis=1))
    for coverage, step in ((0.5, 0), (0.9, 40), (0.99, 49)):
        limits = SETS.table[step]
        for more in ("", "&allow_empty=false"):
            answers = asked(server, form, f"coverage={coverage}{query}{more}")
            for found, scores in zip(answers, by_label, strict=True):
                ranked = np.argsort(scores)
                chosen = [DIGIT_LABELS[i] for i in ranked if scores[i] <= limits[i]]
                if more and (not chosen or chosen[0] != DIGIT_LABELS[ranked[0]]):
                    chosen.insert(0, DIGIT_LABELS[ranked[0]])
                assert found["set"] == chosen


@each_own_form
@pytest.mark.parametrize("model", ["digits", "adopted"])
def test_top_k_gives_the_most_probable_in_order(
    server: Server, references: Any, form: Form, model: str
) -> None:
    images = list(references[model].images[: 5 if form.many else 1])
    (all_of, three, plenty) = (
        predictions(form.send(server, Ask(images, model=model, query=query)))
        for query in ("", "top_k=3", "top_k=99")
    )
    for whole, best, rest, row in zip(
        all_of, three, plenty, references[model].probabilities, strict=False
    ):
        labels = list(whole["probabilities"])
        assert list(best["probabilities"]) == [labels[i] for i in np.argsort(-row)[:3]]
        assert best["probabilities"].items() <= whole["probabilities"].items()
        assert sorted(rest["probabilities"]) == sorted(labels)
        assert {**whole, "probabilities": best["probabilities"]} == best


def test_the_card_says_what_stands_behind_it_without_the_table(client: httpx.Client) -> None:
    body = client.get("/models/doubtful").json()
    assert ModelDetail.model_validate(body).card.energy == ENERGY
    assert body["card"]["conformal"] == {"pictures": 1000, "pictures_by_label": [100] * 10}


def test_the_report_is_linked_and_loads_nothing(client: httpx.Client) -> None:
    asked = client.get("/models/doubtful")
    link = urljoin(str(asked.url), asked.json()["report"])
    assert link.endswith("/models/doubtful/versions/1/report")
    for path in (link, "/models/doubtful/report"):
        page = client.get(path)
        assert page.text == REPORT
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_model_without_a_report_says_so(client: httpx.Client) -> None:
    assert client.get("/models/zero").json()["report"] is None
    for path in ("/models/zero/report", "/models/zero/versions/1/report"):
        missing = client.get(path)
        assert missing.status_code == 404
        assert "'zero' version 1 has no report" in missing.json()["detail"]


def test_openapi_documents_the_range_of_coverage(client: httpx.Client) -> None:
    parameters = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in parameters}
    assert schemas.keys() == {"top_k", "calibrated", "coverage", "allow_empty"}
    assert (schemas["coverage"]["minimum"], schemas["coverage"]["maximum"]) == (0.5, 0.999)
