"""The Open Inference Protocol over REST: JSON, followed by binary tensors.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; the
binary tensor data extension is Triton's, docs/protocol/extension_binary_data.md.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT
from logitserve_service.api import tensors
from logitserve_service.api.call import Call, Content, Limits, Output
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.json_values import check_members, from_base64, pixels_from_json
from logitserve_service.api.options import no_query
from logitserve_service.api.predict import JSON
from logitserve_service.api.tensors import (
    BINARY_DATA,
    BINARY_OUTPUT,
    BINARY_SIZE,
    CLASSIFICATION,
    THE_INPUT,
    UINT8,
    InferForm,
    RequestedOutput,
)
from logitserve_service.errors import UnreadableRequestError, UnusableRequestError
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.result import Result

HEADER_LENGTH = "Inference-Header-Content-Length"
_FIELD = HEADER_LENGTH.lower().encode()
_BINARY_HEAD = b"content-type: application/octet-stream\r\n" + _FIELD + b": %d\r\n"

REQUEST = "the request"
REQUEST_MEMBERS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
"""Accepted members. KServe's client sends the last two, which are ignored: the path names the
model."""
INPUT_MEMBERS = ("name", "shape", "datatype", "parameters", "data")
OUTPUT_MEMBERS = ("name", "parameters")

Object = Mapping[str, Any]


def read(content: Content, card: ModelCard, limits: Limits) -> Call:
    """Read a request."""
    no_query(content.query)
    length = _json_length(content)
    rest = memoryview(content.body)[length:]
    if length == 0 and _FIELD in content.fields:  # a raw binary request: the body is pixels
        count = len(rest) // math.prod(card.input.shape)
        tensors.check_input(card, INPUT, UINT8, (count, *card.input.shape), limits.images)
        inputs = tensors.unpack(card, UINT8, count, rest)
        return Call(inputs, form=InferForm(None, tensors.all_outputs(binary=True)))
    try:
        document = read_json(content.body[:length], limits)
    except UnreadableRequestError as error:
        raise UnreadableRequestError(
            f"{error} (where binary tensors follow it, {HEADER_LENGTH} must give its length)"
        ) from error
    if not isinstance(document, dict):
        raise UnusableRequestError('the JSON must be an object with "inputs"')
    check_members(document, REQUEST_MEMBERS, REQUEST)
    return Call(
        _read_input(card, document, rest, limits.images),
        form=InferForm(_optional(document, "id", str, REQUEST), _read_outputs(card, document)),
    )


def _json_length(content: Content) -> int:
    """Return the length of the JSON; 0 if the body is pixels only."""
    value, size = content.fields.get(_FIELD), len(content.body)
    if value is None:
        return size
    if not value.isdigit() or len(value) > 18 or int(value) > size:
        raise UnreadableRequestError(
            f"{HEADER_LENGTH} is {value.decode('latin-1')!r}; it must be the length of the JSON "
            f"at the beginning of the body, which has {size} bytes"
        )
    return int(value)


def _read_input(card: ModelCard, document: Object, rest: memoryview, max_images: int) -> Inputs:
    inputs = _objects(document, "inputs")
    for tensor in inputs[:2]:
        name, datatype, shape = map(tensor.get, ("name", "datatype", "shape"))
        if not isinstance(shape, list):
            raise UnusableRequestError(f"input {name!r}: its shape is not a list")
        count = tensors.check_input(card, name, datatype, shape, max_images)
    if len(inputs) != 1:
        raise UnusableRequestError(f"the {THE_INPUT} must occur once, not {len(inputs)} times")
    return _read_data(card, inputs[0], count, rest)


def _read_data(card: ModelCard, tensor: Object, count: int, rest: memoryview) -> Inputs:
    check_members(tensor, INPUT_MEMBERS, THE_INPUT)
    size = _optional(_parameters(tensor, THE_INPUT), BINARY_SIZE, int, THE_INPUT)
    data = _optional(tensor, "data", list, THE_INPUT)
    if size is not None and data is not None:
        raise UnusableRequestError(f"{THE_INPUT} has both data and {BINARY_SIZE}; send one of them")
    if (size or 0) != len(rest):
        raise UnusableRequestError(
            f"{THE_INPUT}: {BINARY_SIZE} is {size}, but {len(rest)} bytes follow the JSON"
        )
    if size is not None:
        return tensors.unpack(card, tensor["datatype"], count, rest)
    if data is None:
        raise UnusableRequestError(
            f"{THE_INPUT} has no data; send it in the JSON, or after it with {BINARY_SIZE}"
        )
    if tensor["datatype"] == UINT8:
        return pixels_from_json(data, THE_INPUT, (count, *card.input.shape))
    if len(data) != count:
        raise UnusableRequestError(f"{THE_INPUT}: {len(data)} elements, but its shape is [{count}]")
    return [from_base64(text, f"{THE_INPUT}: data[{index}]") for index, text in enumerate(data)]


def _read_outputs(card: ModelCard, document: Object) -> tuple[RequestedOutput, ...]:
    parameters = _parameters(document, REQUEST)
    binary = bool(_optional(parameters, BINARY_OUTPUT, bool, f"parameters of {REQUEST}"))
    if not _optional(document, "outputs", list, REQUEST):
        return tensors.all_outputs(binary=binary)
    return tensors.check_outputs(card, _requested(_objects(document, "outputs"), binary=binary))


def _requested(outputs: list[Object], *, binary: bool) -> Iterator[RequestedOutput]:
    for output in outputs:
        where = f"output {output.get('name')!r}"
        check_members(output, OUTPUT_MEMBERS, where)
        parameters = _parameters(output, where)
        chosen = _optional(parameters, BINARY_DATA, bool, where)
        yield RequestedOutput(
            name=str(output.get("name")),
            classification=_optional(parameters, CLASSIFICATION, int, where),
            binary=binary if chosen is None else chosen,
        )


def _objects(document: Object, key: str) -> list[Object]:
    found = document.get(key)
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        return found
    raise UnusableRequestError(f"{key!r} must be a list of objects, one for each tensor")


def _parameters(holder: Object, where: str) -> Object:
    parameters: Object = _optional(holder, "parameters", dict, where) or {}
    if parameters:
        tensors.check_parameters(parameters, where)
    return parameters


_JSON_NAME = {str: "a string", list: "a list", dict: "an object", bool: "true or false"}
_JSON_NAME |= {int: "a whole number"}


def _optional(holder: Object, key: str, kind: type, where: str) -> Any:
    """Return an optional member; null, which some clients send, counts as missing."""
    value = holder.get(key)
    if value is None or type(value) is kind:  # `type`, because True is an int
        return value
    raise UnusableRequestError(f"{where}: {key!r} must be {_JSON_NAME[kind]}")


def write(call: Call, result: Result) -> Output:
    """Write the requested outputs, in the JSON or as binary data after it."""
    form: InferForm = call.form
    outputs: list[dict[str, Any]] = []
    binary = []
    found = tensors.output_tensors(result, form.outputs)
    for tensor, requested in zip(found, form.outputs, strict=True):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype}
        output["shape"] = tensor.shape
        if requested.binary:
            binary.append(tensor.to_bytes())
            output["parameters"] = {BINARY_SIZE: len(binary[-1])}
        elif isinstance(tensor.data, list):
            output["data"] = [element.decode() for element in tensor.data]
        else:
            output["data"] = tensor.data.ravel()
        outputs.append(output)
    card = result.card
    document: dict[str, Any] = {
        "model_name": card.name,
        "model_version": card.version,
        "outputs": outputs,
    }
    if form.id is not None:
        document["id"] = form.id
    if result.ids is not None:
        document["parameters"] = {tensors.PREDICTION_ID: ",".join(result.ids)}
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not binary:
        return body, JSON
    return b"".join([body, *binary]), _BINARY_HEAD % len(body)
