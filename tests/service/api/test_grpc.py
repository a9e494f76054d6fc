"""The Open Inference Protocol over gRPC: messages ↔ `Call` and `Result`."""

import contextlib
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api.grpc import MAX_BYTES, MAX_FIELDS, Message, parse, read, write
from logitserve_service.api.tensors import InferForm, RequestedOutput
from logitserve_service.errors import (
    MessageTooLargeError,
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from tests.hunt.cases import delimited
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


def parsed(request: Request) -> Message:
    return parse(request.SerializeToString())


def put_together(message: Message) -> Request:
    """What protobuf would have parsed."""
    whole = Request()
    whole.CopyFrom(message.request)
    if message.contents is not None:
        whole.inputs[-1].contents.MergeFromString(bytes(message.contents))
    whole.raw_input_contents.extend(map(bytes, message.raw))
    return whole


@given(SMALL_IMAGES)
def test_pixels_round_trip(images: Pixels) -> None:
    typed = Request()
    tensor = typed.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    tensor.contents.uint_contents.extend(images.ravel().tolist())
    for request in (good_request(images), typed):
        assert put_together(parsed(request)) == request
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
    response = write(read(parsed(good_request()), CARD, LIMITS), result())
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


def other_contents(request: Request) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.int_contents.extend([1, 2, 3])


def other_files(request: Request) -> None:
    few_files(request)
    request.inputs[0].contents.fp32_contents.append(1)


def few_bytes(request: Request) -> None:
    request.raw_input_contents[0] = request.raw_input_contents[0][1:]


def classification_as_text(request: Request) -> None:
    request.outputs.add(name="logits").parameters["classification"].string_param = "3"


def misspelled_parameter(request: Request) -> None:
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
        (two_inputs, "'image' must occur once, not 2 times"),
        (no_inputs, "'image' must occur once, not 0 times"),
        (other_name, "'pixels'.*'image'"),
        (other_shape, r"\[3, 784\].*\[n, 28, 28, 1\]"),
        (few_numbers, "3 uint_contents"),
        (large_numbers, "to 255"),
        (few_files, "1 bytes_contents"),
        (other_contents, "packed in one field"),
        (other_files, "not bytes_contents"),
        (few_bytes, "2351 bytes of data.*2352"),
        (classification_as_text, "int64_param"),
        (misspelled_parameter, "did you mean 'classification'"),
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
        read(parsed(request), CARD, LIMITS)


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
    for body in (message, inside):
        assert_refused_in_little_memory(body, MessageTooLargeError, f"{MAX_FIELDS} fields")


def assert_refused_in_little_memory(body: bytes, error: type[Exception], words: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words):
            read(parse(body), CARD, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 + len(body) * 3
    finally:
        tracemalloc.stop()


def with_contents(field: int, data: bytes, datatype: bytes = b"UINT8") -> bytes:
    """An encoded request, also with what the classes would not make."""
    shape = b"\x01\x1c\x1c\x01" if datatype == b"UINT8" else b"\x05"
    contents = delimited(5, delimited(field, data) if field else data)
    named = delimited(1, b"image") + delimited(2, datatype) + delimited(3, shape)
    return delimited(5, named + contents)


@pytest.mark.parametrize("field", [1, 2, 3, 4, 5, 6, 7])
def test_numbers_are_not_made_before_they_are_counted(field: int) -> None:
    body = with_contents(field, b"\1" * 1_000_000)
    assert_refused_in_little_memory(body, UnusableRequestError, "uint_contents")


def test_elements_are_not_made_before_they_are_counted() -> None:
    body = with_contents(0, b"\x42\0" * 500_000, b"BYTES")
    assert_refused_in_little_memory(body, TooManyImagesError, "limit of 40")


@pytest.mark.parametrize("field", [1, 2, 3, 4, 9])
def test_what_is_besides_the_data_is_limited(field: int) -> None:
    body = delimited(field, bytes(MAX_BYTES))
    assert_refused_in_little_memory(body, MessageTooLargeError, f"{MAX_BYTES} bytes without")
    inside = delimited(5, delimited(field, b"\1" * MAX_BYTES))
    assert_refused_in_little_memory(inside, MessageTooLargeError, f"{MAX_BYTES} bytes without")


@given(st.lists(st.integers(0, 300), min_size=784, max_size=784))
def test_any_numbers(numbers: list[int]) -> None:
    request = good_request(IMAGES[:1])
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend(numbers)
    if max(numbers) > 255:
        with pytest.raises(UnusableRequestError, match="to 255"):
            read(parsed(request), CARD, LIMITS)
    else:
        found = read(parsed(request), CARD, LIMITS).inputs
        assert np.asarray(found).ravel().tolist() == numbers


@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    with contextlib.suppress(UnreadableRequestError, DecodeError):
        assert put_together(parse(data)) == Request.FromString(data)


@pytest.mark.parametrize(
    "data",
    [b"\x2a", b"\x2a\x05", b"\xff" * 11, b"\x0b\x0c", b"\x0a\x01\xff", b"\x2a\xff\xff\xff\xff\x7f"],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        parse(data)
