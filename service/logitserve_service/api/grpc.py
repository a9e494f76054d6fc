"""The Open Inference Protocol over gRPC: messages ↔ `Call` and `Result`.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_grpc.md.
"""

from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT
from logitserve_service.api import inference_pb2 as pb
from logitserve_service.api import tensors
from logitserve_service.api.call import Call, Limits
from logitserve_service.api.tensors import (
    CLASSIFICATION,
    THE_INPUT,
    UINT8,
    InferForm,
    RequestedOutput,
)
from logitserve_service.errors import UnreadableRequestError, UnusableRequestError
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.result import Result

MAX_FIELDS = 64  # of a request, and of each tensor; parameters count one each
_TENSORS = frozenset(
    pb.ModelInferRequest.DESCRIPTOR.fields_by_name[name].number for name in ("inputs", "outputs")
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse(data: bytes) -> pb.ModelInferRequest:
    """Parse a request; its fields are counted first, as two bytes become a message of a hundred."""
    try:
        for number, value in _fields(memoryview(data)):
            if number in _TENSORS:
                for _ in _fields(value):
                    pass
        return pb.ModelInferRequest.FromString(data)
    except (DecodeError, IndexError) as error:
        raise UnreadableRequestError("the message is not a ModelInferRequest") from error


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and value of each field of an encoded message; only values of bytes are read."""
    position = count = 0
    while position < len(message):
        if count == MAX_FIELDS:
            raise UnusableRequestError(
                f"the request, or one of its tensors, has more than {MAX_FIELDS} fields; the "
                f"model has one input, {INPUT!r}"
            )
        count += 1
        tag, position = _varint(message, position)
        begin = position
        kind = tag & 7
        if kind == _VARINT:
            _, position = _varint(message, position)
        elif kind == _BYTES:
            size, begin = _varint(message, position)
            position = begin + size
        elif kind in (_FIXED32, _FIXED64):
            position += 4 if kind == _FIXED32 else 8
        else:
            raise DecodeError
        yield tag >> 3, message[begin:position] if kind == _BYTES else message[:0]


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number, and the position after it."""
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


def read(request: pb.ModelInferRequest, card: ModelCard, limits: Limits) -> Call:
    """Read a request."""
    if len(request.inputs) != 1:
        raise UnusableRequestError(
            f"there are {len(request.inputs)} inputs; the model has one, {INPUT!r}"
        )
    tensors.check_parameters(request.parameters, "the request")
    outputs = tensors.all_outputs()
    if request.outputs:
        outputs = tensors.check_outputs(card, _requested(request))
    return Call(_read_input(request, card, limits), form=InferForm(request.id, outputs))


def _read_input(request: pb.ModelInferRequest, card: ModelCard, limits: Limits) -> Inputs:
    tensor, raw = request.inputs[0], request.raw_input_contents
    tensors.check_parameters(tensor.parameters, THE_INPUT)
    count = tensors.check_input(card, tensor.name, tensor.datatype, tensor.shape, limits.images)
    if bool(raw) == tensor.HasField("contents") or len(raw) > 1:
        raise UnusableRequestError(
            f"{THE_INPUT} must have either its contents or one element of raw_input_contents"
        )
    if raw:
        return tensors.unpack(card, tensor.datatype, count, memoryview(raw[0]))
    if tensor.datatype == UINT8:
        numbers, shape = tensor.contents.uint_contents, (count, *card.input.shape)
        if len(numbers) != np.prod(shape):
            raise UnusableRequestError(
                f"{THE_INPUT}: {len(numbers)} uint_contents, but its shape is {list(shape)}"
            )
        values = np.fromiter(numbers, np.uint32, len(numbers))
        if values.max() > 255:
            raise UnusableRequestError(f"{THE_INPUT}: {UINT8} goes from 0 (black) to 255")
        return values.astype(np.uint8).reshape(shape)
    elements = tensor.contents.bytes_contents
    if len(elements) != count:
        raise UnusableRequestError(
            f"{THE_INPUT}: {len(elements)} bytes_contents, but its shape is [{count}]"
        )
    return list(elements)


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
    """The requested outputs with raw contents, the only ones that Triton's client reads."""
    form: InferForm = call.form
    outputs = tensors.output_tensors(result.card, result.predictions, form.outputs)
    return pb.ModelInferResponse(
        model_name=result.card.name,
        model_version=result.card.version,
        id=form.id or "",
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=output.name, datatype=output.datatype, shape=output.shape
            )
            for output in outputs
        ],
        raw_output_contents=[output.to_bytes() for output in outputs],
    )
