"""The Open Inference Protocol over gRPC: messages ↔ `Call` and `Result`.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.

Parsed protobuf can be much larger than its encoding: two bytes become a message of a hundred bytes,
one byte a number of eight. So tensor data are read in place, and protobuf parses only the rest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Final, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from logitserve.inference.card import ModelCard
from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api import tensors
from logitserve_service.api.call import Call, Limits
from logitserve_service.api.json_values import Pixels
from logitserve_service.api.tensors import (
    CLASSIFICATION,
    THE_INPUT,
    UINT8,
    InferForm,
    RequestedOutput,
)
from logitserve_service.errors import (
    MessageTooLargeError,
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.result import Result

MAX_FIELDS: Final = 256
"""Maximum fields of a request and its tensors; a parameter is two or three, tensor data do not
count."""
MAX_BYTES: Final = 65_536
"""Maximum size of a request without its tensor data."""

_REQUEST = {field.name: field.number for field in pb.ModelInferRequest.DESCRIPTOR.fields}
_INPUTS, _OUTPUTS = _REQUEST["inputs"], _REQUEST["outputs"]
_RAW_CONTENTS = _REQUEST["raw_input_contents"]
_CONTENTS = pb.ModelInferRequest.InferInputTensor.DESCRIPTOR.fields_by_name["contents"].number
_TYPED = {field.name: field.number for field in pb.InferTensorContents.DESCRIPTOR.fields}
_UINTS, _FILES = _TYPED["uint_contents"], _TYPED["bytes_contents"]
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True, slots=True)
class Message:
    """A request whose tensor data are not parsed."""

    request: pb.ModelInferRequest
    """The request without its tensor data."""
    contents: memoryview | None
    """Encoded `InferTensorContents` of the last input that has them."""
    raw: list[memoryview]
    """The elements of `raw_input_contents`."""
    size: int
    """Size of the whole message, in bytes."""
    fields: Mapping[bytes, bytes] = field(default_factory=dict)
    """The call metadata."""


class _Field(NamedTuple):
    number: int
    value: memoryview | None  # None unless the wire type is length-delimited
    whole: memoryview  # the encoded field with its tag


def parse(data: bytes) -> Message:
    """Separate the tensor data of a request from the rest, within the limits of this module.

    Raises:
        MessageTooLargeError: the rest exceeds the limits.
        UnreadableRequestError: the message is not a ModelInferRequest.
    """
    try:
        return _Reader().read(memoryview(data))
    except (DecodeError, IndexError) as error:
        raise UnreadableRequestError("the message is not a ModelInferRequest") from error


class _Reader:
    """Reads one request, and counts its fields and bytes."""

    def __init__(self) -> None:
        self._fields = 0
        self._bytes = 0

    def read(self, message: memoryview) -> Message:
        rest: list[memoryview] = []
        inputs: list[pb.ModelInferRequest.InferInputTensor] = []
        contents: list[memoryview] = []
        raw: list[memoryview] = []
        for number, value, whole in _fields(message):
            if value is not None and number == _RAW_CONTENTS:
                raw.append(value)
                self._count(0)
            elif value is not None and number == _INPUTS:
                inputs.append(self._input(value, contents))
            else:
                self._count(len(whole))
                if value is not None and number == _OUTPUTS:
                    for _ in _fields(value):
                        self._count(0)
                rest.append(whole)
        request = pb.ModelInferRequest.FromString(b"".join(rest))
        request.inputs.extend(inputs)
        return Message(request, _joined(contents), raw, len(message))

    def _input(
        self, message: memoryview, contents: list[memoryview]
    ) -> pb.ModelInferRequest.InferInputTensor:
        self._count(0)
        rest = []
        for number, value, whole in _fields(message):
            if value is not None and number == _CONTENTS:
                contents.append(value)
                self._count(0)
            else:
                rest.append(whole)
                self._count(len(whole))
        return pb.ModelInferRequest.InferInputTensor.FromString(b"".join(rest))

    def _count(self, size: int) -> None:
        self._fields += 1
        self._bytes += size
        if self._fields > MAX_FIELDS or self._bytes > MAX_BYTES:
            raise MessageTooLargeError(MAX_FIELDS, MAX_BYTES)


def _joined(parts: list[memoryview]) -> memoryview | None:
    """Concatenate the occurrences of a message field, which merges them (protobuf encoding)."""
    if len(parts) < 2:
        return parts[0] if parts else None
    return memoryview(b"".join(parts))


def _fields(message: memoryview) -> Iterator[_Field]:
    """Iterate over the fields of an encoded message."""
    position, size = 0, len(message)
    while position < size:
        begin = position
        tag, position = _varint(message, position)
        kind = tag & 7
        value = None
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _BYTES:
            length, start = _varint(message, position)
            position = start + length
            value = message[start:position]
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError
        if position > size:
            raise DecodeError
        yield _Field(tag >> 3, value, message[begin:position])


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Decode a varint; return it and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise DecodeError


def read(message: Message, card: ModelCard, limits: Limits) -> Call:
    """Read a request."""
    request = message.request
    if len(request.inputs) != 1:
        raise UnusableRequestError(
            f"the {THE_INPUT} must occur once, not {len(request.inputs)} times"
        )
    tensors.check_parameters(request.parameters, "the request")
    outputs = tensors.all_outputs()
    if request.outputs:
        outputs = tensors.check_outputs(card, _requested(request))
    return Call(_read_input(message, card, limits), form=InferForm(request.id, outputs))


def _read_input(message: Message, card: ModelCard, limits: Limits) -> Inputs:
    tensor, contents, raw = message.request.inputs[0], message.contents, message.raw
    tensors.check_parameters(tensor.parameters, THE_INPUT)
    count = tensors.check_input(card, tensor.name, tensor.datatype, tensor.shape, limits.images)
    if raw and contents is None and len(raw) == 1:
        return tensors.unpack(card, tensor.datatype, count, raw[0])
    if raw or contents is None:
        raise UnusableRequestError(
            f"{THE_INPUT} must have either its contents or one element of raw_input_contents"
        )
    try:
        if tensor.datatype == UINT8:
            return _pixels(contents, (count, *card.input.shape))
        return _files(contents, count, limits)
    except (DecodeError, IndexError) as error:
        raise UnreadableRequestError(f"the contents of {THE_INPUT} cannot be parsed") from error


def _files(contents: memoryview, count: int, limits: Limits) -> list[bytes]:
    elements: list[bytes] = []
    for number, value, _ in _fields(contents):
        if len(elements) == limits.images:
            raise TooManyImagesError(limits.images)
        if number == _FILES and value is not None:
            elements.append(bytes(value))
        else:
            raise UnusableRequestError(f"{THE_INPUT}: its contents are not bytes_contents")
    if len(elements) != count:
        raise UnusableRequestError(
            f"{THE_INPUT}: {len(elements)} bytes_contents, but its shape is [{count}]"
        )
    return elements


def _pixels(contents: memoryview, shape: tuple[int, ...]) -> Pixels:
    """Decode packed `uint_contents`: one byte for 0 to 127, else two, of which the second is 1."""
    packed = [value for number, value, _ in _few(contents) if number == _UINTS]
    if len(packed) != 1 or packed[0] is None:
        raise UnusableRequestError(
            f"{THE_INPUT}: contents of {UINT8} must be uint_contents, packed in one field"
        )
    encoded = np.frombuffer(packed[0], np.uint8)
    more = encoded > 0x7F
    found = len(encoded) - np.count_nonzero(more)
    if found != prod(shape):
        raise UnusableRequestError(
            f"{THE_INPUT}: {found} uint_contents, but its shape is {list(shape)}"
        )
    if not more.any():
        return encoded.reshape(shape)
    if more[-1]:
        raise DecodeError
    if not (encoded[1:][more[:-1]] == 1).all():
        raise UnusableRequestError(f"{THE_INPUT}: {UINT8} goes from 0 (black) to 255")
    first = np.ones(len(encoded), bool)
    first[1:] = ~more[:-1]
    return encoded[first].reshape(shape)


def _few(contents: memoryview) -> Iterator[_Field]:
    for index, found in enumerate(_fields(contents)):
        if index == MAX_FIELDS:
            raise MessageTooLargeError(MAX_FIELDS, MAX_BYTES)
        yield found


def _requested(request: pb.ModelInferRequest) -> Iterator[RequestedOutput]:
    for output in request.outputs:
        where = f"output {output.name!r}"
        tensors.check_parameters(output.parameters, where)
        count = None
        if CLASSIFICATION in output.parameters:
            parameter = output.parameters[CLASSIFICATION]
            if parameter.WhichOneof("parameter_choice") != "int64_param":
                raise UnusableRequestError(f"{where}: {CLASSIFICATION!r} must be an int64_param")
            count = parameter.int64_param
        yield RequestedOutput(output.name, count)


def write(call: Call, result: Result) -> pb.ModelInferResponse:
    """Write the requested outputs as raw contents, the only form that Triton's client reads."""
    form: InferForm = call.form
    outputs = tensors.output_tensors(result, form.outputs)
    parameters = {}
    if result.ids is not None:
        ids = ",".join(result.ids)
        parameters[tensors.PREDICTION_ID] = pb.InferParameter(string_param=ids)
    return pb.ModelInferResponse(
        model_name=result.card.name,
        model_version=result.card.version,
        id=form.id or "",
        parameters=parameters,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=output.name, datatype=output.datatype, shape=output.shape
            )
            for output in outputs
        ],
        raw_output_contents=[output.to_bytes() for output in outputs],
    )
