"""The Open Inference Protocol over REST: bytes → `Call`, `Result` → bytes."""

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve.inference.card import Head
from logitserve_service.api.call import Call, Content
from logitserve_service.api.tensors import InferForm, RequestedOutput
from logitserve_service.api.v2 import read, write
from logitserve_service.errors import (
    JsonTooDeepError,
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from logitserve_service.http.messages import pairs
from tests.service.api.codec_helpers import (
    CARD,
    IMAGES,
    LIMITS,
    SMALL_CARD,
    SMALL_IMAGES,
    WEIGHTS,
    Pixels,
    assert_same,
    content,
    result,
    softmax,
)
from tests.tiny_models import SPEC, card_for, linear_logits, png, weights

FIELD = b"inference-header-content-length"
FILES = [png(image) for image in IMAGES]
PIXELS = IMAGES[0].ravel().tolist()
SIZE = len(PIXELS)
ALL = ("logits", "probabilities", "argmax")
NO_PIXELS: list[Any] = [256, -1, 0.5, 1.0, None, "7", True, False, [1], {}, 10**40]


def tensor(**changes: Any) -> dict[str, Any]:
    """A good input with some members replaced; None leaves one out."""
    good = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "data": PIXELS}
    return {key: value for key, value in {**good, **changes}.items() if value is not None}


def one(**changes: Any) -> dict[str, Any]:
    return {"inputs": [tensor(**changes)]}


def wanting(*outputs: Any, **members: Any) -> dict[str, Any]:
    return {**one(), "outputs": list(outputs), **members}


def binary(document: Any, rest: bytes) -> Content:
    head = json.dumps(document).encode()
    return content(head + rest, fields={FIELD: b"%d" % len(head)})


def elements(*files: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(data)) + data for data in files)


def asked(body: Any) -> Call:
    return read(content(body), CARD, LIMITS)


@given(SMALL_IMAGES)
def test_pixels_round_trip(images: Pixels) -> None:
    shape: Any = {"name": "image", "datatype": "UINT8", "shape": images.shape}
    size = {"parameters": {"binary_data_size": images.nbytes}}
    for request in (
        content({"inputs": [{**shape, "data": images.tolist()}]}),
        content({"inputs": [{**shape, "data": images.ravel().tolist(), "parameters": None}]}),
        binary({"inputs": [{**shape, **size, "data": None}]}, images.tobytes()),
        content(images.tobytes(), fields={FIELD: b"0"}),
    ):
        assert_same(read(request, SMALL_CARD, LIMITS).inputs, images)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5))
def test_files_round_trip(files: list[bytes]) -> None:
    head: Any = {"datatype": "BYTES", "shape": [len(files)]}
    texts = [base64.b64encode(data).decode() for data in files]
    assert asked(one(**head, data=texts)).inputs == files
    rest = elements(*files)
    size = {"parameters": {"binary_data_size": len(rest)}, "data": None}
    assert read(binary(one(**head, **size), rest), CARD, LIMITS).inputs == files


def requested(*outputs: RequestedOutput, id: str | None = None) -> InferForm:  # noqa: A002
    return InferForm(id, outputs)


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (one(), requested(*map(RequestedOutput, ALL))),
        ({**one(), "id": None, "outputs": None}, requested(*map(RequestedOutput, ALL))),
        ({**one(), "id": "7", "outputs": []}, requested(*map(RequestedOutput, ALL), id="7")),
        (wanting({"name": "argmax"}), requested(RequestedOutput("argmax"))),
        (
            wanting(
                {"name": "logits", "parameters": {"classification": 3}},
                {"name": "argmax", "parameters": {"binary_data": False}},
                parameters={"binary_data_output": True},
            ),
            requested(RequestedOutput("logits", 3, binary=True), RequestedOutput("argmax")),
        ),
        # what clients of Triton, KServe and MLServer send besides
        (
            {
                **wanting({"name": "argmax", "parameters": {"content_type": "np"}}),
                "model_name": "digits",
                "parameters": {
                    "sequence_id": 5,
                    "sequence_start": True,
                    "sequence_end": False,
                    "priority": 1,
                    "timeout": 9,
                    "content_type": "np",
                    "headers": {"a": "b"},
                    "own parameter": [1],
                },
            },
            requested(RequestedOutput("argmax")),
        ),
        (one(parameters={"content_type": "np"}), requested(*map(RequestedOutput, ALL))),
    ],
)
def test_what_the_response_shall_have(body: Any, form: InferForm) -> None:
    call = asked(body)
    assert call.form == form
    assert call.options is None
    assert_same(call.inputs, IMAGES[:1])


def nested(element: Any) -> Any:
    """[1][28][28][1] with one element replaced."""
    rows: Any = IMAGES[:1].tolist()
    rows[0][3][5][0] = element
    return rows


@pytest.mark.parametrize(
    ("body", "words"),
    [
        # not a request
        ([], "object"),
        ("inputs", "object"),
        ({}, "'inputs'"),
        ({"inputs": []}, "'inputs'"),
        ({"inputs": {}}, "'inputs'"),
        ({"inputs": [PIXELS]}, "'inputs'"),
        ({"instances": [PIXELS]}, "'instances'"),
        ({**one(), "id": 7}, "'id'.*string"),
        ({**one(), "parameters": []}, "'parameters'.*object"),
        ({**one(), "parameters": {"binary_data_output": 1}}, "binary_data_output"),
        # unknown names
        ({**one(), "ouputs": []}, "member of the request: 'ouputs'; did you mean 'outputs'"),
        (one(dtype="UINT8"), "member of input 'image': 'dtype'; did you mean 'datatype'"),
        (wanting({"name": "argmax", "params": {}}), "'params'; did you mean 'parameters'"),
        (one(parameters={"binary_datasize": 3}), "did you mean 'binary_data_size'"),
        ({**one(), "parameters": {"binary_data_outputs": True}}, "mean 'binary_data_output'"),
        (
            wanting({"name": "logits", "parameters": {"classificaton": 3}}),
            "parameter of output 'logits': 'classificaton'; did you mean 'classification'",
        ),
        # the tensor's head
        (one(name="input_1"), "'input_1'.*'image'"),
        (one(name=None), "None.*'image'"),
        (one(name=["image"]), "'image'"),
        ({"inputs": [tensor(), tensor()]}, "once.*2 times"),
        ({"inputs": [tensor(), tensor(name="mask")]}, "'mask'"),
        (one(datatype="FP32"), "'FP32'.*UINT8"),
        (one(datatype="uint8"), "'uint8'.*UINT8"),
        (one(datatype=None), "None.*UINT8"),
        (one(datatype={"a": 1}), "UINT8"),
        (one(shape=None), "shape"),
        (one(shape="1,28,28,1"), "shape"),
        (one(shape=[]), r"\[n, 28, 28, 1\]"),
        (one(shape=[1, 784]), r"\[1, 784\].*\[n, 28, 28, 1\]"),
        (one(shape=[1, 1, 28, 28]), r"\[n, 28, 28, 1\]"),
        (one(shape=[0, 28, 28, 1], data=[]), "at least 1"),
        (one(shape=[-1, 28, 28, 1]), "at least 1"),
        (one(shape=[1.0, 28, 28, 1]), r"\[1.0, 28, 28, 1\]"),
        (one(shape=[True, 28, 28, 1]), r"\[True, 28, 28, 1\]"),
        (one(shape=["1", 28, 28, 1]), r"\['1', 28, 28, 1\]"),
        (one(shape=[[1], 28, 28, 1]), r"\[n, 28, 28, 1\]"),
        (one(datatype="BYTES", shape=[1, 28, 28, 1]), r"takes \[n\]"),
        # the tensor's data
        (one(data=None), "no data"),
        (one(data="AAAA"), "'data'.*list"),
        (one(data=PIXELS[:-1]), "783 elements.*784"),
        (one(data=[*PIXELS, 0]), "785 elements.*784"),
        (one(data=[]), "0 elements"),
        (one(shape=[2, 28, 28, 1]), "784 elements.*1568"),
        *[
            (one(data=[*PIXELS[:-1], other]), r"whole, from 0 \(black\) to 255")
            for other in NO_PIXELS
        ],
        *[(one(data=nested(other)), "whole.*255") for other in NO_PIXELS],
        (one(data=nested(7)[0]), "not nested as shape"),
        (one(data=[*nested(7), 1]), "not nested as shape"),
        (one(data=[[PIXELS]]), "not nested as shape"),
        (one(data=[[]]), "not nested as shape"),
        (one(datatype="BYTES", shape=[1], data=["*"]), r"data\[0\] is not base64"),
        (one(datatype="BYTES", shape=[1], data=[5]), r"data\[0\] is not a string"),
        (one(datatype="BYTES", shape=[2], data=["QUJD"]), r"1 elements.*\[2\]"),
        (one(data=None, parameters={"shared_memory_region": "a"}), "shared memory"),
        # outputs
        ({**one(), "outputs": {}}, "'outputs'"),
        (wanting("logits"), "'outputs'"),
        (wanting({}), "None.*logits, probabilities, argmax"),
        (wanting({"name": "softmax"}), "'softmax'.*logits, probabilities, argmax"),
        (wanting({"name": "logits"}, {"name": "logits"}), "twice"),
        *[
            (wanting({"name": name, "parameters": parameters}), words)
            for name, parameters, words in [
                ("logits", 5, "'parameters'.*object"),
                ("logits", {"binary_data": "true"}, "binary_data.*true or false"),
                ("logits", {"classification": "3"}, "classification.*whole number"),
                ("logits", {"classification": 2.5}, "classification.*whole number"),
                ("logits", {"classification": True}, "classification.*whole number"),
                ("logits", {"classification": 0}, "at least 1"),
                ("argmax", {"classification": 1}, "'argmax' is a class already"),
                ("logits", {"shared_memory_region": "a"}, "shared memory"),
            ]
        ],
    ],
)
def test_malformed_json(body: Any, words: str) -> None:
    with pytest.raises(UnusableRequestError, match=words):
        asked(body)


BLOB = bytes(PIXELS)
ONE_FILE = elements(FILES[0])


def sized(size: Any, **changes: Any) -> dict[str, Any]:
    return one(data=None, parameters={"binary_data_size": size}, **changes)


def files(size: int, count: int = 1) -> dict[str, Any]:
    return sized(size, datatype="BYTES", shape=[count])


@pytest.mark.parametrize(
    ("document", "rest", "words"),
    [
        (sized(SIZE), BLOB[:-1], "784.*783 bytes follow"),
        (sized(SIZE), BLOB + b"\0", "784.*785 bytes follow"),
        (sized(SIZE - 1), BLOB[:-1], "783 bytes of data.*784"),
        (sized(SIZE + 1), BLOB + b"\0", "785 bytes of data.*784"),
        (sized(SIZE, shape=[2, 28, 28, 1]), BLOB, "784 bytes of data.*1568"),
        (sized(-SIZE), BLOB, "-784"),
        (sized(0), b"", "0 bytes of data"),
        (sized(2**63), BLOB, "784 bytes follow"),
        (sized("784"), BLOB, "binary_data_size.*whole number"),
        (sized(784.0), BLOB, "binary_data_size.*whole number"),
        (sized(size=True), BLOB[:1], "binary_data_size.*whole number"),
        (one(parameters={"binary_data_size": SIZE}), BLOB, "both"),
        (one(), BLOB, "784 bytes follow"),
        (files(len(ONE_FILE) - 1), ONE_FILE[:-1], "1 BYTES elements"),
        (files(len(ONE_FILE) + 1), ONE_FILE + b"\0", "1 BYTES elements"),
        (files(len(ONE_FILE), 2), ONE_FILE, "2 BYTES elements"),
        (files(2 * len(ONE_FILE)), ONE_FILE * 2, "1 BYTES elements"),
        (files(4), b"\xff\xff\xff\xff", "1 BYTES elements"),
        (files(3), b"\0\0\0", "1 BYTES elements"),
    ],
)
def test_malformed_binary(document: Any, rest: bytes, words: str) -> None:
    with pytest.raises(UnusableRequestError, match=words):
        read(binary(document, rest), CARD, LIMITS)


HEAD = json.dumps(sized(SIZE)).encode()


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (b"%d" % (len(HEAD + BLOB) + 1), "length of the JSON"),
        (b"1" + b"0" * 30, "length of the JSON"),
        *[(length, "length of the JSON") for length in (b"many", b"-5", b"1.5", b"", b"\xb2")],
        (b"%d" % (len(HEAD) - 1), "not JSON"),
        (b"%d" % (len(HEAD) + 1), "not JSON"),
        (None, "not JSON.*Inference-Header-Content-Length"),
    ],
)
def test_a_length_that_does_not_fit(length: bytes | None, words: str) -> None:
    fields = {} if length is None else {FIELD: length}
    with pytest.raises(UnreadableRequestError, match=words):
        read(content(HEAD + BLOB, fields=fields), CARD, LIMITS)


@pytest.mark.parametrize("body", [b"", BLOB[:-1], HEAD + BLOB])
def test_a_raw_request_of_another_size(body: bytes) -> None:
    with pytest.raises(UnusableRequestError, match=r"bytes of data|at least 1"):
        read(content(body, fields={FIELD: b"0"}), CARD, LIMITS)


def test_other_errors() -> None:
    for many in (41, 10**18):
        with pytest.raises(TooManyImagesError):
            asked(one(shape=[many, 28, 28, 1]))
    with pytest.raises(UnreadableRequestError, match="not JSON"):
        asked(b"{")
    with pytest.raises(JsonTooDeepError):
        asked(b"[" * 100_000)
    with pytest.raises(UnusableRequestError, match="query parameter 'binary'"):
        read(content(one(), query=b"binary=1"), CARD, LIMITS)


def answered(body: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON of the response to a request about `IMAGES`; its tensors, wherever their data are."""
    written, head = write(asked(body), result())
    headers = dict(pairs(head))
    length = int(headers.get(FIELD, len(written)))
    document, rest = json.loads(written[:length]), written[length:]
    assert headers[b"content-type"] == (
        b"application/octet-stream" if FIELD in headers else b"application/json"
    )
    tensors: dict[str, Any] = {}
    for found in document["outputs"]:
        data = found.get("data")
        if data is None:
            size = found["parameters"]["binary_data_size"]
            data, rest = rest[:size], rest[size:]
            if found["datatype"] == "BYTES":
                tensors[found["name"]] = data
                continue
            data = np.frombuffer(data, {"FP32": "<f4", "INT64": "<i8"}[found["datatype"]])
        tensors[found["name"]] = np.reshape(data, found["shape"])
    assert rest == b""
    return document, tensors


LOGITS = linear_logits(IMAGES, WEIGHTS)


@pytest.mark.parametrize("parameters", [None, {"binary_data_output": True}])
def test_the_response_has_every_output(parameters: Any) -> None:
    document, tensors = answered({**one(), "id": "7", "parameters": parameters})
    assert (document["model_name"], document["model_version"]) == (CARD.name, CARD.version)
    assert document["id"] == "7"
    assert list(tensors) == list(ALL)
    np.testing.assert_allclose(tensors["logits"], LOGITS, atol=1e-5)
    np.testing.assert_allclose(tensors["probabilities"], softmax(LOGITS), atol=1e-6)
    np.testing.assert_array_equal(tensors["argmax"], LOGITS.argmax(axis=1))


def test_a_classification_is_text() -> None:
    parameters = {"classification": 2}
    document, tensors = answered(wanting({"name": "logits", "parameters": parameters}))
    assert "id" not in document
    assert document["outputs"][0]["datatype"] == "BYTES"
    for texts, row in zip(tensors["logits"], LOGITS, strict=True):
        for text, index in zip(texts, np.argsort(-row)[:2], strict=True):
            value, place, label = text.split(":")
            assert float(value) == pytest.approx(row[index], abs=1e-5)
            assert (int(place), label) == (index, CARD.labels[index])
    parameters = {"classification": 99, "binary_data": True}
    document, blobs = answered(wanting({"name": "logits", "parameters": parameters}))
    assert document["outputs"][0]["shape"] == [3, 10]
    (size,) = struct.unpack_from("<I", blobs["logits"])
    assert blobs["logits"][4 : 4 + size].decode() == tensors["logits"][0][0]


def test_the_one_logit_of_a_binary_model_has_no_label() -> None:
    card = card_for(weights(SPEC, 1, 0), head=Head.BINARY, labels=("no", "yes"))
    outputs = [
        {"name": name, "parameters": {"classification": 5}} for name in ("logits", "probabilities")
    ]
    call = read(content({**one(), "outputs": outputs}), card, LIMITS)
    document = json.loads(write(call, result(card=card))[0])
    logits, probabilities = document["outputs"]
    assert logits["shape"] == [3, 1]
    assert logits["data"][0].count(":") == 1
    assert probabilities["shape"] == [3, 2]
    assert {text.rpartition(":")[2] for text in probabilities["data"]} == {"no", "yes"}
