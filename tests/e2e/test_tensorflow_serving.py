"""TensorFlow Serving's REST form over a real connection."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
from scipy.special import softmax

from logitserve_service.api.protocol_schemas import ModelStatus, PredictResponse
from tests.e2e.conftest import Weights
from tests.e2e.test_bad_requests import assert_problem
from tests.tiny_models import linear_logits, png, random_picture

PREDICT = "/v1/models/digits:predict"
PICTURES = np.stack([random_picture(seed) for seed in range(4)])
FILES = [{"b64": base64.b64encode(png(picture)).decode()} for picture in PICTURES]
ROWS = PICTURES.tolist()
ONE = ROWS[0]


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"instances": [{"image": row} for row in ROWS]},
        {"instances": FILES},
        {"instances": [{"image": file} for file in FILES]},
        {"signature_name": "serving_default", "instances": ROWS},
        {"inputs": ROWS},
        {"inputs": {"image": ROWS}},
        {"inputs": FILES},
        {"inputs": {"image": FILES}},
    ],
)
def test_each_form_gives_the_right_numbers(
    client: httpx.Client, weights: Weights, body: dict[str, Any]
) -> None:
    answer = client.post(PREDICT, json=body).json()
    PredictResponse.model_validate(answer)
    (found,) = answer.values()
    assert list(answer) == ["predictions" if "instances" in body else "outputs"]
    expected = softmax(linear_logits(PICTURES, weights["digits/2"]), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("digits", "digits/2"),
        ("digits/versions/1", "digits/1"),
        ("digits/versions/2", "digits/2"),
        ("digits/labels/stable", "digits/2"),
        ("digits/labels/latest", "digits/2"),
    ],
)
def test_the_path_chooses_the_version(
    client: httpx.Client, weights: Weights, path: str, key: str
) -> None:
    answer = client.post(f"/v1/models/{path}:predict", json={"instances": ROWS}).json()
    expected = softmax(linear_logits(PICTURES, weights[key]), axis=1)
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-5)
    version = key.rpartition("/")[2]
    status = ModelStatus.model_validate(client.get(f"/v1/models/{path}").json())
    first = status.model_version_status[0]
    assert (first.version, first.state, first.status["error_code"]) == (version, "AVAILABLE", "OK")
    spec = client.get(f"/v1/models/{path}/metadata").json()["model_spec"]
    assert (spec["name"], spec["version"]) == ("digits", version)


def test_status_and_signature(client: httpx.Client) -> None:
    versions = client.get("/v1/models/digits").json()["model_version_status"]
    assert [version["version"] for version in versions] == ["2", "1"]
    metadata = client.get("/v1/models/scenes/metadata").json()["metadata"]
    signature = metadata["signature_def"]["signature_def"]["serving_default"]
    tensors = {
        name: (tensor["dtype"], [int(dim["size"]) for dim in tensor["tensor_shape"]["dim"]])
        for side in ("inputs", "outputs")
        for name, tensor in signature[side].items()
    }
    assert tensors == {
        "image": ("DT_UINT8", [-1, 12, 16, 3]),
        "probabilities": ("DT_FLOAT", [-1, 3]),
    }


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, ["not JSON"]),
        (b"", 400, ["not JSON"]),
        (b'{"instances": [[[[NaN]]]]}', 400, ["not JSON"]),
        ([], 422, ["instances", "inputs"]),
        ({}, 422, ["instances", "inputs"]),
        ({"instances": ROWS, "inputs": ROWS}, 422, ["one of them"]),
        ({"instances": []}, 422, ["at least one"]),
        ({"instances": ONE[0][0][0]}, 422, ["list"]),
        ({"instances": {"image": ROWS}}, 422, ["list"]),
        ({"inputs": {"x": ROWS}}, 422, ["['x']", "'image'"]),
        ({"inputs": {}}, 422, ["'image'"]),
        ({"inputs": {"image": ROWS, "x": 1}}, 422, ["'image'"]),
        ({"instances": [{"x": ONE}]}, 422, ["instances[0]", "['x']"]),
        ({"instances": ROWS, "signature_name": "train"}, 422, ["'train'", "serving_default"]),
        ({"instances": ROWS, "signature_name": 5}, 422, ["serving_default"]),
        ({"instances": ONE}, 422, ["not nested as shape [28, 28, 28, 1]"]),
        ({"instances": [ONE, ONE[:-1]]}, 422, ["[2, 28, 28, 1]"]),
        ({"instances": [ONE, FILES[0]]}, 422, ["all lists of 28×28×1", "b64"]),
        ({"instances": ["text"]}, 422, ["b64"]),
        ({"instances": [FILES[0], {"b64": "*"}]}, 422, ["instances[1] is not base64"]),
        ({"instances": [{"b64": 5}]}, 422, ["instances[0] is not a string"]),
        ({"instances": [{"b64": "QUJD"}]}, 422, ["not a picture"]),
        ({"instances": [{"b64": "QUJD", "x": 1}]}, 422, ["instances[0]"]),
        ({"instances": (PICTURES / 255).tolist()}, 422, ["whole", "255"]),
        ({"instances": (PICTURES.astype(int) + 256).tolist()}, 422, ["255"]),
        ({"instances": [5] * 41}, 413, ["LOGITSERVE_MAX_PICTURES"]),
    ],
)
def test_malformed(client: httpx.Client, body: Any, status: int, words: list[str]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert_problem(client.post(PREDICT, content=content), status, *words)


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("POST", "cats:predict", "'cats'"),
        ("POST", "digits/versions/7:predict", "'7'"),
        ("POST", "digits/labels/canary:predict", "stable, latest"),
        ("GET", "digits/labels/canary", "stable, latest"),
        ("GET", "cats", "'cats'"),
        ("GET", "cats/metadata", "'cats'"),
        ("GET", "digits/versions/7", "'7'"),
        ("POST", "digits:classify", ""),
    ],
)
def test_what_is_not_there(client: httpx.Client, method: str, path: str, word: str) -> None:
    response = client.request(method, f"/v1/models/{path}", json={"instances": ROWS})
    assert_problem(response, 405 if path == "digits:classify" else 404, word)
