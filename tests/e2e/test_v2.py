"""The Open Inference Protocol over a real connection, against answers computed independently."""

import base64
import json
import struct
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit, softmax

from logitserve_service.api.protocol_schemas import InferResponse, ModelMetadata, ServerMetadata
from tests.e2e.conftest import COLOR, Weights
from tests.tiny_models import DIGIT_LABELS, linear_logits, png, random_picture

INFER = "/v2/models/digits/infer"
HEADER = "inference-header-content-length"
TOLERANCE = 1e-5
COUNT = 5

Outputs = dict[str, npt.NDArray[Any]]
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


def length_prefixed(elements: list[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def ask_binary(
    client: httpx.Client, document: dict[str, Any], blob: bytes, path: str = INFER
) -> httpx.Response:
    head = json.dumps(document).encode()
    return client.post(path, content=head + blob, headers={HEADER: str(len(head))})


def read(response: httpx.Response) -> tuple[dict[str, Any], Outputs]:
    """The JSON, and the tensors wherever their data are; BYTES as arrays of str."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER, len(response.content)))
    document = json.loads(response.content[:length])
    rest = response.content[length:]
    InferResponse.model_validate(document)
    outputs: Outputs = {}
    dtypes = {"FP32": "<f4", "INT64": "<i8"}
    for output in document["outputs"]:
        if "data" in output:
            found = np.array(output["data"], dtypes.get(output["datatype"]))
        else:
            size = output["parameters"]["binary_data_size"]
            blob, rest = rest[:size], rest[size:]
            if output["datatype"] == "BYTES":
                elements = []
                while blob:
                    end = 4 + struct.unpack_from("<I", blob)[0]
                    elements.append(blob[4:end].decode())
                    blob = blob[end:]
                found = np.array(elements)
            else:
                found = np.frombuffer(blob, dtypes[output["datatype"]])
        outputs[output["name"]] = found.reshape(output["shape"])
    assert rest == b""
    return document, outputs


def assert_outputs(found: Outputs, expected: Outputs) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == ("int64" if name == "argmax" else "float32")
        np.testing.assert_allclose(found[name], values, atol=TOLERANCE)


def ask_in_every_form(client: httpx.Client) -> list[httpx.Response]:
    encoded = [png(picture) for picture in PICTURES]
    texts = [base64.b64encode(data).decode() for data in encoded]
    pixels, elements = PICTURES.tobytes(), length_prefixed(encoded)
    size: dict[str, Any] = {"parameters": {"binary_data_size": len(pixels)}}
    elements_size: dict[str, Any] = {"parameters": {"binary_data_size": len(elements)}}
    binary_out = {"parameters": {"binary_data_output": True}}
    binary, nested = input_tensor(**size), input_tensor(PICTURES.tolist())
    files = input_tensor(datatype="BYTES", **elements_size)
    return [
        client.post(INFER, json={"inputs": [nested]}),
        client.post(INFER, json={"inputs": [input_tensor(PICTURES.ravel().tolist())]}),
        client.post(INFER, json={"inputs": [input_tensor(texts, datatype="BYTES")]}),
        client.post(INFER, json={"inputs": [nested], **binary_out}),
        client.post(INFER, json={"inputs": [nested], "outputs": None, "id": None}),
        client.post(INFER, json={"inputs": [nested], "outputs": []}),
        ask_binary(client, {"inputs": [binary]}, pixels),
        ask_binary(client, {"inputs": [binary], **binary_out}, pixels),
        ask_binary(client, {"inputs": [files], **binary_out}, elements),
        client.post(INFER, content=pixels, headers={HEADER: "0"}),
    ]


def test_every_form_gives_the_same_right_numbers(client: httpx.Client, expected: Outputs) -> None:
    answers = [read(response)[1] for response in ask_in_every_form(client)]
    for outputs in answers:
        assert_outputs(outputs, expected)
        for name in expected:  # JSON carries each float32 in full
            np.testing.assert_array_equal(outputs[name], answers[0][name])


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


def test_the_path_chooses_the_version(client: httpx.Client, weights: Weights) -> None:
    document = {"inputs": [input_tensor(PICTURES.tolist())]}
    for version in ("1", "2"):
        path = f"/v2/models/digits/versions/{version}/infer"
        answer, found = read(client.post(path, json=document))
        assert answer["model_version"] == version
        logits = linear_logits(PICTURES, weights[f"digits/{version}"])
        np.testing.assert_allclose(found["logits"], logits, atol=TOLERANCE)


def test_metadata_names_what_is_there(client: httpx.Client) -> None:
    server = ServerMetadata.model_validate(client.get("/v2").json())
    assert server.extensions == ["binary_tensor_data", "classification", "model_repository"]
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
    assert names == ["digits/1", "digits/2", "scenes/1", "warm/1", "zero/1"]
    assert {entry["state"] for entry in entries} == {"READY"}
