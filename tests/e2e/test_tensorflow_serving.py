"""TensorFlow Serving's REST form over a real connection."""

import httpx
import numpy as np
import pytest
from scipy.special import softmax

from logitserve_service.api.protocol_schemas import ModelStatus
from tests.e2e.conftest import Weights
from tests.e2e.problems import assert_problem
from tests.tiny_models import linear_logits, random_picture

PICTURES = np.stack([random_picture(seed) for seed in range(4)])
ROWS = PICTURES.tolist()


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
    ("method", "path", "word"),
    [
        ("POST", "cats:predict", "'cats'"),
        ("POST", "digits/versions/7:predict", "'7'"),
        ("POST", "digits/labels/canary:predict", "stable or latest"),
        ("GET", "digits/labels/canary", "stable or latest"),
        ("GET", "cats", "'cats'"),
        ("GET", "cats/metadata", "'cats'"),
        ("GET", "digits/versions/7", "'7'"),
        ("POST", "digits:classify", ""),
    ],
)
def test_what_is_not_there(client: httpx.Client, method: str, path: str, word: str) -> None:
    response = client.request(method, f"/v1/models/{path}", json={"instances": ROWS})
    assert_problem(response, 405 if path == "digits:classify" else 404, word)
