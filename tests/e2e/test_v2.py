"""The Open Inference Protocol over a real connection, against answers computed independently."""

from typing import Any

import httpx
import numpy as np
import pytest
from scipy.special import expit, softmax

from logitserve_service.api.protocol_schemas import InferResponse, ModelMetadata, ServerMetadata
from tests.e2e.conftest import COLOR, VERSIONS, Weights
from tests.e2e.problems import assert_problem
from tests.e2e.process import Server
from tests.forms import V2_FORMS, Ask, Form, Outputs, v2_outputs
from tests.tiny_models import DIGIT_LABELS, linear_logits, random_picture

INFER = "/v2/models/digits/infer"
TOLERANCE = 1e-5
COUNT = 5

PICTURES = np.stack([random_picture(seed) for seed in range(COUNT)])


@pytest.fixture
def expected(weights: Weights) -> Outputs:
    logits = linear_logits(PICTURES, weights["digits/2"])
    return {
        "logits": logits,
        "probabilities": softmax(logits, axis=1),
        "argmax": logits.argmax(axis=1),
    }


def input_tensor(data: Any = None, *, datatype: str = "UINT8", **members: Any) -> dict[str, Any]:
    shape = PICTURES.shape if datatype == "UINT8" else [COUNT]
    tensor = {"name": "image", "datatype": datatype, "shape": shape, **members}
    return tensor if data is None else {**tensor, "data": data}


def read(response: httpx.Response) -> tuple[dict[str, Any], Outputs]:
    assert response.status_code == 200, response.text
    document, outputs = v2_outputs(response)
    InferResponse.model_validate(document)
    return document, outputs


def assert_outputs(found: Outputs, expected: Outputs) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == ("int64" if name == "argmax" else "float32")
        np.testing.assert_allclose(found[name], values, atol=TOLERANCE)


@pytest.mark.parametrize("form", V2_FORMS, ids=str)
def test_every_form_gives_every_output(server: Server, expected: Outputs, form: Form) -> None:
    _, found = v2_outputs(form.send(server, Ask(list(PICTURES))))
    assert_outputs(found, expected)
    _, first = v2_outputs(V2_FORMS[0].send(server, Ask(list(PICTURES))))
    for name in expected:  # JSON carries each float32 in full
        np.testing.assert_array_equal(found[name], first[name])


@pytest.mark.parametrize("names", [["argmax"], ["probabilities", "logits"], ["logits", "argmax"]])
def test_only_what_is_asked_for_is_sent_in_that_order(
    client: httpx.Client, expected: Outputs, names: list[str]
) -> None:
    outputs = [{"name": name} for name in names]
    document = {"inputs": [input_tensor(PICTURES.tolist())], "outputs": outputs}
    _, found = read(client.post(INFER, json=document))
    assert_outputs(found, {name: expected[name] for name in names})


def test_an_output_may_be_binary_beside_another_that_is_not(
    client: httpx.Client, expected: Outputs
) -> None:
    document = {
        "id": "mixed",
        "inputs": [input_tensor(PICTURES.tolist())],
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": "argmax"},
            {"name": "logits", "parameters": {"binary_data": False}},
            {"name": "probabilities", "parameters": {"binary_data": True}},
        ],
    }
    answer, found = read(client.post(INFER, json=document))
    assert ["data" in output for output in answer["outputs"]] == [False, True, False]
    assert_outputs(found, {name: expected[name] for name in ("argmax", "logits", "probabilities")})


def test_the_id_and_the_model_are_named(client: httpx.Client) -> None:
    document = {"inputs": [input_tensor(PICTURES.tolist())]}
    answer = client.post(INFER, json={**document, "id": "a-17"}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("a-17", "digits", "2")
    assert "id" not in client.post(INFER, json=document).json()


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", ["logits", "probabilities"])
@pytest.mark.parametrize("count", [1, 3, 99])
def test_classification(
    client: httpx.Client, expected: Outputs, name: str, count: int, *, binary: bool
) -> None:
    wanted = {"name": name, "parameters": {"classification": count, "binary_data": binary}}
    document = {"inputs": [input_tensor(PICTURES.tolist())], "outputs": [wanted]}
    answer, found = read(client.post(INFER, json=document))
    shown = min(count, 10)
    assert answer["outputs"][0]["datatype"] == "BYTES"
    assert found[name].shape == (COUNT, shown)
    for row, values in zip(found[name], expected[name], strict=True):
        order = np.argsort(-values)[:shown]
        parts = [text.split(":") for text in row]
        assert [int(index) for _, index, _ in parts] == order.tolist()
        assert [label for _, _, label in parts] == [DIGIT_LABELS[i] for i in order]
        found_values = [float(value) for value, _, _ in parts]
        np.testing.assert_allclose(found_values, values[order], atol=TOLERANCE)


def test_binary_and_sigmoid_models(client: httpx.Client, weights: Weights) -> None:
    document: dict[str, Any] = {"inputs": [input_tensor(PICTURES.tolist())]}
    _, found = read(client.post("/v2/models/zero/infer", json=document))
    logits = linear_logits(PICTURES, weights["zero/1"])
    expected = {
        "logits": logits,
        "probabilities": np.hstack([expit(-logits), expit(logits)]),
        "argmax": (logits[:, 0] > 0).astype(int),
    }
    assert_outputs(found, expected)
    document["outputs"] = [
        {"name": name, "parameters": {"classification": 2}} for name in ("logits", "probabilities")
    ]
    _, found = read(client.post("/v2/models/zero/infer", json=document))
    assert all(text.split(":")[1:] == ["0"] for text in found["logits"][:, 0])
    assert {text.split(":")[2] for text in found["probabilities"].ravel()} == {"other", "zero"}
    scenes = np.stack([random_picture(seed, COLOR) for seed in range(3)])
    tensor = {"name": "image", "datatype": "UINT8", "shape": scenes.shape, "data": scenes.tolist()}
    _, found = read(client.post("/v2/models/scenes/infer", json={"inputs": [tensor]}))
    logits = linear_logits(scenes, weights["scenes/1"])
    np.testing.assert_allclose(found["probabilities"], expit(logits), atol=TOLERANCE)


def test_metadata_names_what_is_there(client: httpx.Client) -> None:
    server = ServerMetadata.model_validate(client.get("/v2").json())
    assert server.extensions == [
        *("binary_tensor_data", "classification"),
        *("model_configuration", "statistics", "model_repository"),
    ]
    model = ModelMetadata.model_validate(client.get("/v2/models/zero").json())
    assert model.platform == "onnx_onnxv1"
    assert [(t.name, t.datatype, t.shape) for t in (*model.inputs, *model.outputs)] == [
        ("image", "UINT8", [-1, 28, 28, 1]),
        ("logits", "FP32", [-1, 1]),
        ("probabilities", "FP32", [-1, 2]),
        ("argmax", "INT64", [-1]),
    ]
    assert client.get("/v2/models/digits/versions/1").json()["versions"] == ["1", "2"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/1/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, body)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": true}'])
def test_the_index_lists_every_version(client: httpx.Client, body: bytes) -> None:
    entries = client.post("/v2/repository/index", content=body).json()
    names = [f"{entry['name']}/{entry['version']}" for entry in entries]
    assert names == VERSIONS
    assert {entry["state"] for entry in entries} == {"READY"}


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"ready": 1}', 422), (b"null", 422)]
)
def test_a_malformed_index_request(client: httpx.Client, body: bytes, status: int) -> None:
    assert_problem(client.post("/v2/repository/index", content=body), status)


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v2/models/cats", 404, "'cats'"),
        ("/v2/models/cats/ready", 404, "'cats'"),
        ("/v2/models/digits/versions/latest", 404, "'latest'"),
        ("/v2/models/digits/versions/9/ready", 404, "'9'"),
        ("/v2/models/digits/infer", 405, ""),
        ("/v2/repository/index", 405, ""),
    ],
)
def test_a_path_that_is_not_there(client: httpx.Client, path: str, status: int, word: str) -> None:
    assert_problem(client.get(path), status, word)
