"""What a client of the Open Inference Protocol gets wrong is answered with the right 4xx."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.e2e.test_bad_requests import assert_problem
from tests.e2e.test_v2 import HEADER, INFER, length_prefixed
from tests.tiny_models import png, random_picture

PIXELS = random_picture(0).ravel().tolist()
SIZE = len(PIXELS)
GOOD = png(random_picture(0))
LARGE = png(np.zeros((1001, 1000), np.uint8))
MANY = 41  # the server of these tests takes 40


def tensor(**changes: Any) -> dict[str, Any]:
    """A good input with some members replaced; None leaves one out."""
    good = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": PIXELS}
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def one(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(**changes)]}


def wanting(*outputs: Any) -> dict[str, Any]:
    return {**one(), "outputs": list(outputs)}


def nested(**swaps: Any) -> Any:
    """[1][28][28][1] with one element replaced."""
    rows = [[[pixel] for pixel in row] for row in np.reshape(PIXELS, (28, 28)).tolist()]
    rows[3][5][0] = swaps["element"]
    return [rows]


def encoded(*files: bytes) -> dict[str, Any]:
    texts = [base64.b64encode(data).decode() for data in files]
    return one(datatype="BYTES", shape=[len(files)], data=texts)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        # not JSON
        (b"", 400, ["not JSON"]),
        (b"{", 400, ["not JSON"]),
        (b"\xff\xd8\xff", 400, ["not JSON"]),
        (b"[" * 100_000, 400, ["deeper than the limit of 32"]),
        (json.dumps(one(data=[float("nan")] * SIZE)).encode(), 400, ["not JSON"]),
        (json.dumps(one(data=[float("inf")] * SIZE)).encode(), 400, ["not JSON"]),
        # not a request
        ([], 422, ["object"]),
        ("inputs", 422, ["object"]),
        ({}, 422, ["'inputs'"]),
        ({"inputs": []}, 422, ["'inputs'"]),
        ({"inputs": {}}, 422, ["'inputs'"]),
        ({"inputs": [PIXELS]}, 422, ["'inputs'"]),
        ({"instances": [PIXELS]}, 422, ["'inputs'"]),
        ({**one(), "id": 7}, 422, ["'id'", "string"]),
        ({**one(), "parameters": []}, 422, ["'parameters'", "object"]),
        ({**one(), "parameters": {"binary_data_output": 1}}, 422, ["binary_data_output"]),
        # the tensor's head
        (one(name="input_1"), 422, ["'input_1'", "'image'"]),
        (one(name=None), 422, ["None", "'image'"]),
        (one(name=["image"]), 422, ["'image'"]),
        ({"inputs": [tensor(), tensor()]}, 422, ["once", "2 times"]),
        ({"inputs": [tensor(), tensor(name="mask")]}, 422, ["'mask'"]),
        (one(datatype="FP32"), 422, ["'FP32'", "UINT8"]),
        (one(datatype="uint8"), 422, ["'uint8'", "UINT8"]),
        (one(datatype=None), 422, ["None", "UINT8"]),
        (one(datatype={"a": 1}), 422, ["UINT8"]),
        (one(shape=None), 422, ["shape"]),
        (one(shape="1,28,28,1"), 422, ["shape"]),
        (one(shape=[]), 422, ["[n, 28, 28, 1]"]),
        (one(shape=[28, 28]), 422, ["[28, 28]", "[n, 28, 28, 1]"]),
        (one(shape=[1, 784]), 422, ["[1, 784]", "[n, 28, 28, 1]"]),
        (one(shape=[1, 1, 28, 28]), 422, ["[n, 28, 28, 1]"]),
        (one(shape=[0, 28, 28, 1], data=[]), 422, ["at least 1"]),
        (one(shape=[-1, 28, 28, 1]), 422, ["at least 1"]),
        (one(shape=[1, -28, -28, 1]), 422, ["[n, 28, 28, 1]"]),
        (one(shape=[1.0, 28, 28, 1]), 422, ["[1.0, 28, 28, 1]"]),
        (one(shape=[True, 28, 28, 1]), 422, ["[True, 28, 28, 1]"]),
        (one(shape=["1", 28, 28, 1]), 422, ["['1', 28, 28, 1]"]),
        (one(shape=[[1], 28, 28, 1]), 422, ["[n, 28, 28, 1]"]),
        (one(datatype="BYTES", shape=[1, 28, 28, 1]), 422, ["takes [n]"]),
        # the tensor's data
        (one(data=None), 422, ["no data"]),
        (one(data=base64.b64encode(bytes(PIXELS)).decode()), 422, ["'data'", "list"]),
        (one(data=PIXELS[:-1]), 422, ["783 elements", "784"]),
        (one(data=[*PIXELS, 0]), 422, ["785 elements", "784"]),
        (one(data=[]), 422, ["0 elements"]),
        (one(shape=[2, 28, 28, 1]), 422, ["784 elements", "1568"]),
        (one(data=[*PIXELS[:-1], 256]), 422, ["whole", "255"]),
        (one(data=[*PIXELS[:-1], -1]), 422, ["whole", "255"]),
        (one(data=[*PIXELS[:-1], 0.5]), 422, ["whole"]),
        (one(data=[*PIXELS[:-1], 1.0]), 422, ["whole"]),
        (one(data=[*PIXELS[:-1], None]), 422, ["whole"]),
        (one(data=[*PIXELS[:-1], "7"]), 422, ["whole"]),
        (one(data=[*PIXELS[:-1], True]), 422, ["whole"]),
        (one(data=[*PIXELS[:-1], [1]]), 422, ["whole"]),
        (one(data=[*PIXELS[:-1], 10**40]), 422, ["whole"]),
        (one(data=nested(element=[1])), 422, ["whole"]),
        (one(data=nested(element=256)), 422, ["255"]),
        (one(data=nested(element=7)[0]), 422, ["not nested as shape"]),
        (one(data=[*nested(element=7), 1]), 422, ["not nested as shape"]),
        (one(data=[[PIXELS]]), 422, ["not nested as shape"]),
        # encoded pictures
        (one(datatype="BYTES", shape=[1], data=["*"]), 422, ["data[0] is not base64"]),
        (one(datatype="BYTES", shape=[1], data=[5]), 422, ["data[0] is not a string"]),
        (one(datatype="BYTES", shape=[2], data=["QUJD"]), 422, ["1 elements", "[2]"]),
        (encoded(b"hello"), 422, ["not a picture"]),
        (encoded(GOOD, GOOD[:-30]), 422, ["picture 1", "damaged"]),
        (encoded(LARGE), 413, ["LOGITSERVE_MAX_PIXELS"]),
        # too many
        (one(shape=[MANY, 28, 28, 1]), 413, ["limit of 40", "LOGITSERVE_MAX_PICTURES"]),
        (encoded(*[GOOD] * MANY), 413, ["limit of 40", "LOGITSERVE_MAX_PICTURES"]),
        (one(shape=[10**18, 28, 28, 1]), 413, ["LOGITSERVE_MAX_PICTURES"]),
        # outputs
        ({**one(), "outputs": {}}, 422, ["'outputs'"]),
        (wanting("logits"), 422, ["'outputs'"]),
        (wanting({}), 422, ["None", "logits, probabilities, argmax"]),
        (wanting({"name": "softmax"}), 422, ["'softmax'", "logits, probabilities, argmax"]),
        (wanting({"name": "logits"}, {"name": "logits"}), 422, ["twice"]),
        *(
            (wanting({"name": name, "parameters": parameters}), 422, words)
            for name, parameters, words in [
                ("logits", 5, ["'parameters'", "object"]),
                ("logits", {"binary_data": "true"}, ["binary_data", "true or false"]),
                ("logits", {"classification": "3"}, ["classification", "whole number"]),
                ("logits", {"classification": 2.5}, ["classification", "whole number"]),
                ("logits", {"classification": True}, ["classification", "whole number"]),
                ("logits", {"classification": 0}, ["at least 1"]),
                ("probabilities", {"classification": -3}, ["at least 1"]),
                ("argmax", {"classification": 1}, ["'argmax' is a class already"]),
                ("logits", {"shared_memory_region": "a"}, ["shared memory"]),
            ]
        ),
        (one(data=None, parameters={"shared_memory_region": "a"}), 422, ["shared memory"]),
    ],
)
def test_malformed_json(client: httpx.Client, body: Any, status: int, words: list[str]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert_problem(client.post(INFER, content=content), status, *words)


BLOB = bytes(PIXELS)
ELEMENTS = length_prefixed([GOOD])
TWO_ELEMENTS = length_prefixed([GOOD, GOOD])


def sized(size: Any, **changes: Any) -> dict[str, Any]:
    return one(data=None, parameters={"binary_data_size": size}, **changes)


def files(size: int, count: int = 1) -> dict[str, Any]:
    return sized(size, datatype="BYTES", shape=[count])


@pytest.mark.parametrize(
    ("document", "blob", "status", "words"),
    [
        (sized(SIZE), BLOB[:-1], 422, ["784", "783 bytes follow"]),
        (sized(SIZE), BLOB + b"\0", 422, ["784", "785 bytes follow"]),
        (sized(SIZE), b"", 422, ["784", "0 bytes follow"]),
        (sized(SIZE - 1), BLOB[:-1], 422, ["783 bytes of data", "784"]),
        (sized(SIZE + 1), BLOB + b"\0", 422, ["785 bytes of data", "784"]),
        (sized(SIZE, shape=[2, 28, 28, 1]), BLOB, 422, ["784 bytes of data", "1568"]),
        (sized(-SIZE), BLOB, 422, ["-784"]),
        (sized(0), b"", 422, ["0 bytes of data"]),
        (sized(2**63), BLOB, 422, ["784 bytes follow"]),
        (sized("784"), BLOB, 422, ["binary_data_size", "whole number"]),
        (sized(784.0), BLOB, 422, ["binary_data_size", "whole number"]),
        (sized(size=True), BLOB[:1], 422, ["binary_data_size", "whole number"]),
        (one(parameters={"binary_data_size": SIZE}), BLOB, 422, ["both"]),
        (one(), BLOB, 422, ["784 bytes follow"]),
        (files(len(ELEMENTS) - 1), ELEMENTS[:-1], 422, ["1 BYTES elements"]),
        (files(len(ELEMENTS) + 1), ELEMENTS + b"\0", 422, ["1 BYTES elements"]),
        (files(len(ELEMENTS), 2), ELEMENTS, 422, ["2 BYTES elements"]),
        (files(len(TWO_ELEMENTS)), TWO_ELEMENTS, 422, ["1 BYTES elements"]),
        (files(4), b"\xff\xff\xff\xff", 422, ["1 BYTES elements"]),
        (files(3), b"\0\0\0", 422, ["1 BYTES elements"]),
        (files(4), b"\0\0\0\0", 422, ["the picture is empty"]),
        (files(len(GOOD)), GOOD, 422, ["4 little-endian bytes"]),
    ],
)
def test_malformed_binary(
    client: httpx.Client, document: Any, blob: bytes, status: int, words: list[str]
) -> None:
    head = json.dumps(document).encode()
    response = client.post(INFER, content=head + blob, headers={HEADER: str(len(head))})
    assert_problem(response, status, *words)


HEAD = json.dumps(sized(SIZE)).encode()


@pytest.mark.parametrize(
    ("length", "status", "words"),
    [
        (str(len(HEAD + BLOB) + 1), 400, ["length of the JSON"]),
        (str(10**30), 400, ["length of the JSON"]),
        ("many", 400, ["'many'"]),
        ("-5", 400, ["'-5'"]),
        ("1.5", 400, ["'1.5'"]),
        ("", 400, ["''"]),
        (str(len(HEAD) - 1), 400, ["not JSON"]),
        (str(len(HEAD) + 1), 400, ["not JSON"]),
        (None, 400, ["not JSON", "Inference-Header-Content-Length"]),
        ("0", 422, ["bytes of data"]),
    ],
)
def test_a_header_that_does_not_fit(
    client: httpx.Client, length: str | None, status: int, words: list[str]
) -> None:
    headers = {} if length is None else {HEADER: length}
    response = client.post(INFER, content=HEAD + BLOB, headers=headers)
    assert_problem(response, status, *words)


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/v2/models/cats/infer", 404, ["'cats'", "digits"]),
        ("POST", "/v2/models/digits/versions/9/infer", 404, ["'9'", "1, 2"]),
        ("GET", "/v2/models/cats", 404, ["'cats'"]),
        ("GET", "/v2/models/cats/ready", 404, ["'cats'"]),
        ("GET", "/v2/models/digits/versions/latest", 404, ["'latest'"]),
        ("GET", "/v2/models/digits/versions/9/ready", 404, ["'9'"]),
        ("GET", "/v2/models/digits/infer", 405, []),
        ("GET", "/v2/repository/index", 405, []),
        ("POST", "/v2/repository/models/digits/load", 403, ["LOGITSERVE_ADMIN_KEY"]),
    ],
)
def test_a_path_that_is_not_there(
    client: httpx.Client, method: str, path: str, status: int, words: list[str]
) -> None:
    assert_problem(client.request(method, path), status, *words)


def test_a_body_that_is_too_large_or_packed(client: httpx.Client) -> None:
    response = client.post(INFER, content=bytes(1_000_001), headers={HEADER: "0"})
    assert_problem(response, 413, "LOGITSERVE_MAX_BODY_BYTES")
    response = client.post(INFER, content=b"{}", headers={"content-encoding": "br"})
    assert_problem(response, 415, "'br'")


@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), (b"[]", 422), (b'{"ready": 1}', 422), (b"null", 422)]
)
def test_a_malformed_index_request(client: httpx.Client, body: bytes, status: int) -> None:
    assert_problem(client.post("/v2/repository/index", content=body), status)


def test_the_server_still_answers(client: httpx.Client) -> None:
    assert client.post(INFER, json=one()).status_code == 200
