"""The Open Inference Protocol over gRPC: messages ↔ `Call` and `Result`."""

import contextlib
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api.grpc import parse, read, write
from logitserve_service.api.tensors import InferForm, RequestedOutput
from logitserve_service.errors import (
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from tests.service.api.codec_helpers import (
    CARD,
    IMAGES,
    LIMITS,
    SMALL_CARD,
    SMALL_IMAGES,
    WEIGHTS,
    Pixels,
    assert_same,
    result,
    softmax,
)
from tests.tiny_models import linear_logits

Request = pb.ModelInferRequest


def good_request(images: Pixels = IMAGES) -> Request:
    request = Request(model_name="digits", id="7")
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    return request


def parsed(request: Request) -> Request:
    return parse(request.SerializeToString())


@given(SMALL_IMAGES)
def test_pixels_round_trip(images: Pixels) -> None:
    typed = Request()
    tensor = typed.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    tensor.contents.uint_contents.extend(images.ravel().tolist())
    for request in (good_request(images), typed):
        assert parsed(request) == request
        assert_same(read(parsed(request), SMALL_CARD, LIMITS).inputs, images)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=40))
def test_files_round_trip(files: list[bytes]) -> None:
    typed = Request()
    tensor = typed.inputs.add(name="image", datatype="BYTES", shape=[len(files)])
    raw = Request(inputs=[tensor])
    tensor.contents.bytes_contents.extend(files)
    blob = b"".join(len(data).to_bytes(4, "little") + data for data in files)
    raw.raw_input_contents.append(blob)
    for request in (typed, raw):
        assert read(parsed(request), CARD, LIMITS).inputs == files


def test_what_the_response_shall_have() -> None:
    request = good_request()
    request.parameters["sequence_id"].int64_param = 5
    names = [RequestedOutput(name) for name in ("logits", "probabilities", "argmax")]
    assert read(parsed(request), CARD, LIMITS).form == InferForm("7", tuple(names))
    request.outputs.add(name="argmax")
    request.outputs.add(name="logits").parameters["classification"].int64_param = 3
    expected = (RequestedOutput("argmax"), RequestedOutput("logits", 3))
    assert read(parsed(request), CARD, LIMITS).form == InferForm("7", expected)


def test_the_response_has_raw_contents() -> None:
    response = write(read(good_request(), CARD, LIMITS), result())
    assert (response.model_name, response.model_version, response.id) == ("tiny", "1", "7")
    logits = linear_logits(IMAGES, WEIGHTS)
    expected = {
        "logits": ("FP32", logits),
        "probabilities": ("FP32", softmax(logits)),
        "argmax": ("INT64", logits.argmax(axis=1)),
    }
    assert [output.name for output in response.outputs] == list(expected)
    for output, data in zip(response.outputs, response.raw_output_contents, strict=True):
        datatype, values = expected[output.name]
        assert output.datatype == datatype
        found = np.frombuffer(data, {"FP32": "<f4", "INT64": "<i8"}[datatype])
        np.testing.assert_allclose(found.reshape(output.shape), values, atol=1e-5)


def both_contents(request: Request) -> None:
    request.inputs[0].contents.uint_contents.extend([1])


def no_contents(request: Request) -> None:
    del request.raw_input_contents[:]


def two_contents(request: Request) -> None:
    request.raw_input_contents.append(b"1")


def two_inputs(request: Request) -> None:
    request.inputs.append(request.inputs[0])


def no_inputs(request: Request) -> None:
    del request.inputs[:]


def other_name(request: Request) -> None:
    request.inputs[0].name = "pixels"


def other_shape(request: Request) -> None:
    request.inputs[0].shape[:] = [3, 784]


def few_numbers(request: Request) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend([1, 2, 3])


def large_numbers(request: Request) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend((IMAGES.ravel().astype(int) + 1).tolist())


def few_files(request: Request) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].datatype = "BYTES"
    request.inputs[0].shape[:] = [2]
    request.inputs[0].contents.bytes_contents.append(b"x")


def few_bytes(request: Request) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][1:]


def classification_as_text(request: Request) -> None:
    request.outputs.add(name="logits").parameters["classification"].string_param = "3"


def misspelt_parameter(request: Request) -> None:
    request.outputs.add(name="logits").parameters["classificaton"].int64_param = 3


def shared_memory(request: Request) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "a"


def an_output_twice(request: Request) -> None:
    request.outputs.add(name="logits")
    request.outputs.add(name="logits")


def another_output(request: Request) -> None:
    request.outputs.add(name="softmax")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (both_contents, "either its contents"),
        (no_contents, "either its contents"),
        (two_contents, "either its contents"),
        (two_inputs, "2 inputs; the model has one, 'image'"),
        (no_inputs, "0 inputs; the model has one, 'image'"),
        (other_name, "'pixels'.*'image'"),
        (other_shape, r"\[3, 784\].*\[n, 28, 28, 1\]"),
        (few_numbers, "3 uint_contents"),
        (large_numbers, "to 255"),
        (few_files, "1 bytes_contents"),
        (few_bytes, "2351 bytes of data.*2352"),
        (classification_as_text, "int64_param"),
        (misspelt_parameter, "did you mean 'classification'"),
        (shared_memory, "shared memory"),
        (an_output_twice, "twice"),
        (another_output, "'softmax'.*logits, probabilities, argmax"),
    ],
)
def test_malformed(spoil: Callable[[Request], None], words: str) -> None:
    request = good_request()
    spoil(request)
    with pytest.raises(UnusableRequestError, match=words):
        read(parsed(request), CARD, LIMITS)


def test_too_many_images() -> None:
    request = good_request()
    request.inputs[0].shape[0] = 41
    with pytest.raises(TooManyImagesError):
        read(request, CARD, LIMITS)


INPUTS, OUTPUTS = b"\x2a", b"\x32"


@pytest.mark.parametrize(
    "data",
    [
        INPUTS + b"\0",
        OUTPUTS + b"\0",
        b"\x22\x02\x0a\0",  # parameters
        b"\x3a\0",  # raw contents
        b"\x08\x01",  # a field of another message
    ],
)
def test_many_fields_are_refused_before_anything_is_made_of_them(data: bytes) -> None:
    message = data * 4_000_000
    inside = INPUTS + b"\x80\x89\x7a" + data * (2_000_000 // len(data))
    tracemalloc.start()
    begun = time.process_time()
    try:
        for body in (message, inside):
            with pytest.raises(UnusableRequestError, match="more than 64 fields"):
                parse(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        assert time.process_time() - begun < 1
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(UnreadableRequestError):
        assert parse(data) == Request.FromString(data)


@pytest.mark.parametrize(
    "data",
    [b"\x2a", b"\x2a\x05", b"\xff" * 11, b"\x0b\x0c", b"\x0a\x01\xff", b"\x2a\xff\xff\xff\xff\x7f"],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        parse(data)
