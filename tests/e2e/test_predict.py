"""`POST /predict` over a real connection, against answers that are computed independently."""

import base64
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, softmax

from logitserve.inference.runtime import open_session
from logitserve_service.api.schemas import PredictResponse
from tests.e2e.conftest import COLOR, SCENE_LABELS, Weights
from tests.tiny_models import DIGIT_LABELS, SPEC, linear_logits, png, random_picture

PNG = {"content-type": "image/png"}
# The network itself is float32; the reference is float64 from the pixels on.
TOLERANCE = 1e-5


def ask_with_bodies(client: httpx.Client, path: str, picture: npt.NDArray[np.uint8]) -> list[Any]:
    """The prediction for one picture, sent in each of the forms that the route takes."""
    encoded = png(picture)
    text = base64.b64encode(encoded).decode()
    responses = [
        client.post(path, content=encoded, headers=PNG),
        client.post(path, content=encoded, headers={"content-type": "application/octet-stream"}),
        client.post(path, files=[("file", ("a.png", encoded, "image/png"))]),
        client.post(path, json={"images": [text]}),
        client.post(path, json={"images": [f"data:image/png;base64,{text}"]}),
        client.post(path, json={"pixels": picture.tolist()}),
        client.post(path, json={"pixels": [picture.tolist()]}),
    ]
    if picture.shape[2] == 1:
        responses.append(client.post(path, json={"pixels": picture[:, :, 0].tolist()}))
        responses.append(client.post(path, json={"pixels": [picture[:, :, 0].tolist()]}))
    for response in responses:
        assert response.status_code == 200, response.text
        PredictResponse.model_validate_json(response.content)
    return [response.json()["predictions"] for response in responses]


def test_every_body_form_gives_the_same_right_numbers(
    client: httpx.Client, weights: Weights
) -> None:
    picture = random_picture(5)
    expected = softmax(linear_logits(picture[None], weights["digits/2"])[0])
    for predictions in ask_with_bodies(client, "/predict", picture):
        (prediction,) = predictions
        assert tuple(prediction["probabilities"]) == DIGIT_LABELS
        found = np.array(list(prediction["probabilities"].values()))
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        assert prediction["argmax"] == expected.argmax()
        assert prediction["label"] == DIGIT_LABELS[expected.argmax()]
        assert prediction["probability"] == found.max()
        assert "labels" not in prediction


def test_a_sigmoid_model_adds_the_labels_over_their_thresholds(
    client: httpx.Client, weights: Weights
) -> None:
    for seed in range(20):
        picture = random_picture(seed, COLOR)
        expected = expit(linear_logits(picture[None], weights["scenes/1"])[0])
        holding = [
            label
            for label, p, threshold in zip(SCENE_LABELS, expected, (0.2, 0.5, 0.8), strict=True)
            if p >= threshold
        ]
        (first, *others) = ask_with_bodies(client, "/models/scenes/predict", picture)
        found = list(first[0]["probabilities"].values())
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        assert first[0]["labels"] == holding
        assert all(other == first for other in others)


def test_a_binary_model_says_no_and_yes(client: httpx.Client, weights: Weights) -> None:
    seen = set()
    for seed in range(12):
        picture = random_picture(seed)
        yes = expit(linear_logits(picture[None], weights["zero/1"])[0, 0])
        body = client.post("/models/zero/predict", content=png(picture), headers=PNG).json()
        (prediction,) = body["predictions"]
        assert prediction["probabilities"]["zero"] == pytest.approx(yes, abs=TOLERANCE)
        assert prediction["probabilities"]["other"] == pytest.approx(1 - yes, abs=TOLERANCE)
        assert prediction["label"] == ("zero" if yes > 0.5 else "other")
        seen.add(prediction["label"])
    assert seen == {"zero", "other"}


@pytest.mark.parametrize("form", ["multipart", "images", "pixels"])
def test_many_pictures_are_answered_in_their_order(
    client: httpx.Client, weights: Weights, form: str
) -> None:
    pictures = np.stack([random_picture(seed) for seed in range(40)])
    encoded = [png(picture) for picture in pictures]
    if form == "multipart":
        files = [("file", (f"{i}.png", data, "image/png")) for i, data in enumerate(encoded)]
        response = client.post("/predict", files=files)
    elif form == "images":
        texts = [base64.b64encode(data).decode() for data in encoded]
        response = client.post("/predict", json={"images": texts})
    else:
        response = client.post("/predict", json={"pixels": pictures.tolist()})
    expected = softmax(linear_logits(pictures, weights["digits/2"]), axis=1)
    found = [list(p["probabilities"].values()) for p in response.json()["predictions"]]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_the_temperature_of_the_card_is_applied(client: httpx.Client, weights: Weights) -> None:
    picture = random_picture(6)
    expected = softmax(linear_logits(picture[None], weights["warm/1"])[0] / 2.5)
    body = client.post("/models/warm/predict", content=png(picture), headers=PNG).json()
    found = list(body["predictions"][0]["probabilities"].values())
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/predict", "digits/2"),
        ("/models/digits/predict", "digits/2"),
        ("/models/digits/versions/1/predict", "digits/1"),
        ("/models/digits/versions/2/predict", "digits/2"),
        ("/models/warm/predict", "warm/1"),
    ],
)
def test_the_path_chooses_model_and_version(
    client: httpx.Client, weights: Weights, path: str, key: str
) -> None:
    picture = random_picture(7)
    body = client.post(path, content=png(picture), headers=PNG).json()
    assert f"{body['model']}/{body['version']}" == key
    expected = linear_logits(picture[None], weights[key])[0].argmax()
    assert body["predictions"][0]["argmax"] == expected


def test_top_k_gives_the_most_probable_in_order(client: httpx.Client, weights: Weights) -> None:
    picture = random_picture(8)
    body = client.post("/predict?top_k=3", content=png(picture), headers=PNG).json()
    order = np.argsort(-linear_logits(picture[None], weights["digits/2"])[0])[:3]
    assert list(body["predictions"][0]["probabilities"]) == [DIGIT_LABELS[i] for i in order]
    body = client.post("/predict?top_k=99", content=png(picture), headers=PNG).json()
    assert len(body["predictions"][0]["probabilities"]) == 10


def test_the_answer_is_the_float64_softmax_of_the_files_logits(
    client: httpx.Client, models: tuple[Path, Weights]
) -> None:
    pictures = np.stack([random_picture(seed) for seed in range(40)])
    session = open_session(models[0] / "digits/2/model.onnx")
    (logits,) = session.run(["logits"], {"image": pictures})
    body = client.post("/predict", json={"pixels": pictures.tolist()}).json()
    found = [list(p["probabilities"].values()) for p in body["predictions"]]
    np.testing.assert_allclose(found, softmax(logits.astype(np.float64), axis=1), atol=1e-6)


def test_softmax_answers_sum_to_one(client: httpx.Client) -> None:
    pictures = [random_picture(seed).tolist() for seed in range(40)]
    for prediction in client.post("/predict", json={"pixels": pictures}).json()["predictions"]:
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_a_request_id_goes_in_and_out_and_the_time_is_told(client: httpx.Client) -> None:
    headers = {**PNG, "x-request-id": "order-66"}
    response = client.post("/predict", content=png(random_picture(0)), headers=headers)
    assert response.headers["x-request-id"] == "order-66"
    assert "inference;dur=" in response.headers["server-timing"]
    ids = {client.get("/livez").headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_picture_of_any_size_is_fitted(client: httpx.Client) -> None:
    large = np.repeat(np.repeat(random_picture(9), 5, axis=0), 5, axis=1)
    body = client.post("/predict", content=png(large), headers=PNG).json()
    small = client.post("/predict", content=png(random_picture(9)), headers=PNG).json()
    assert large.shape[:2] == (SPEC.height * 5, SPEC.width * 5)
    assert body["predictions"][0]["argmax"] == small["predictions"][0]["argmax"]
