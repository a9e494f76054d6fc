"""Bodies of the Open Inference Protocol over REST: JSON, with binary tensors behind it.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md; the
binary tensor data extension is Triton's, docs/protocol/extension_binary_data.md.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.payloads import from_base64
from logitserve_service.api.tensors import (
    UINT8,
    Pictures,
    Pixels,
    RequestedOutput,
    Tensor,
    all_outputs,
    check_input,
    check_outputs,
    unpacked,
)
from logitserve_service.errors import UnreadableRequestError, UnusableRequestError
from logitserve_service.http.limits import RequestLimits

HEADER_LENGTH = "Inference-Header-Content-Length"

_LENGTH = re.compile(r"[0-9]{1,18}")
_SHARED_MEMORY = "shared_memory_region"
_BINARY_SIZE = "binary_data_size"

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a body asks."""

    id: str | None
    pictures: Pictures
    outputs: Sequence[RequestedOutput]


def parse(
    card: ModelCard, body: bytes, header_length: str | None, limits: RequestLimits
) -> InferRequest:
    """Read a body.

    Args:
        card: the model that is asked.
        body: JSON, and behind it the data of a binary tensor.
        header_length: bytes of the JSON, as the header says; without it there is only JSON. With
            0 there is none, and the body is pixels ("raw binary request").
        limits: what the request may carry.

    Raises:
        UnreadableRequestError: not JSON, or the header is no number or more than the body.
        UnusableRequestError: JSON that the model cannot answer; it says which part.
        TooManyPicturesError: more than are allowed.
        JsonTooLargeError, JsonTooDeepError: see `read_json`.
    """
    view = memoryview(body)
    length = len(body)
    if header_length is not None:
        if not _LENGTH.fullmatch(header_length) or int(header_length) > len(body):
            raise UnreadableRequestError(
                f"{HEADER_LENGTH} is {header_length!r}; it must be the length of the JSON at "
                f"the beginning of the body, which has {len(body)} bytes"
            )
        length = int(header_length)
        if length == 0:
            return _raw(card, view, limits.pictures)
    try:
        document = read_json(body[:length], limits)
    except UnreadableRequestError as error:
        raise UnreadableRequestError(
            f"{error} (where binary tensors follow it, {HEADER_LENGTH} must give its length)"
        ) from error
    if not isinstance(document, dict):
        raise UnusableRequestError('the JSON must be an object with "inputs"')
    return InferRequest(
        id=_optional(document, "id", str, "request"),
        pictures=_read_input(card, document, view[length:], limits.pictures),
        outputs=_read_outputs(card, document),
    )


def _raw(card: ModelCard, view: memoryview, max_pictures: int) -> InferRequest:
    size = math.prod(card.input.shape)
    count = check_input(
        card, INPUT, UINT8, [len(view) // size, *card.input.shape], max_pictures=max_pictures
    )
    pictures = unpacked(UINT8, count, card.input.shape, view)
    return InferRequest(None, pictures, all_outputs(binary=True))


def _read_input(card: ModelCard, document: Object, rest: memoryview, max_pictures: int) -> Pictures:
    inputs = _objects(document, "inputs")
    names = [tensor.get("name") for tensor in inputs]
    if names == [INPUT] * len(names) and len(names) != 1:
        raise UnusableRequestError(
            f"the input {INPUT!r} must be there once, not {len(names)} times"
        )
    shapes = [tensor.get("shape") for tensor in inputs]
    for tensor, shape in zip(inputs, shapes, strict=True):
        if not isinstance(shape, list):
            raise UnusableRequestError(f"input {tensor.get('name')!r}: its shape is not a list")
        count = check_input(
            card, tensor.get("name"), tensor.get("datatype"), shape, max_pictures=max_pictures
        )
    return _read_data(card, inputs[0], count, rest)


def _read_data(card: ModelCard, tensor: Object, count: int, rest: memoryview) -> Pictures:
    where = f"input {INPUT!r}"
    parameters = _parameters(tensor, where)
    size = _optional(parameters, _BINARY_SIZE, int, where)
    data = _optional(tensor, "data", list, where)
    if size is not None and data is not None:
        raise UnusableRequestError(f"{where} has both data and {_BINARY_SIZE}; send one of them")
    if (size or 0) != len(rest):
        raise UnusableRequestError(
            f"{where}: {_BINARY_SIZE} is {size}, but {len(rest)} bytes follow the JSON"
        )
    if size is not None:
        return unpacked(tensor["datatype"], count, card.input.shape, rest)
    if data is None:
        raise UnusableRequestError(
            f"{where} has no data; send it in the JSON, or behind it with {_BINARY_SIZE}"
        )
    if tensor["datatype"] == UINT8:
        return pixels_from_lists(data, (count, *card.input.shape), where)
    if len(data) != count:
        raise UnusableRequestError(f"{where}: {len(data)} elements, but its shape is [{count}]")
    return [from_base64(text, f"{where}: data[{index}]") for index, text in enumerate(data)]


def pixels_from_lists(data: list[Any], shape: tuple[int, ...], where: str) -> Pixels:
    """Whole numbers from 0 to 255, in lists nested as the shape is, or in one → uint8.

    Every step runs over all elements at once in C: a pixel costs some nanoseconds.

    Raises:
        UnusableRequestError: lists of other lengths, or other elements; it begins with `where`.
    """
    elements = data
    if data and isinstance(data[0], list):
        elements = [data]
        for size in shape:
            if set(map(type, elements)) != {list} or set(map(len, elements)) != {size}:
                raise UnusableRequestError(
                    f"{where}: its lists are not nested as shape {list(shape)} says"
                )
            elements = list(chain.from_iterable(elements))
    if len(elements) != math.prod(shape):
        raise UnusableRequestError(
            f"{where}: {len(elements)} elements, but shape {list(shape)} has {math.prod(shape)}"
        )
    try:
        if set(map(type, elements)) != {int}:
            raise ValueError
        return np.frombuffer(bytes(elements), np.uint8).reshape(shape)
    except ValueError as error:
        raise UnusableRequestError(
            f"{where}: every number of {UINT8} must be whole, from 0 (black) to 255"
        ) from error


def _read_outputs(card: ModelCard, document: Object) -> list[RequestedOutput]:
    binary = _optional(
        _parameters(document, "request"), "binary_data_output", bool, "parameters of the request"
    )
    if not document.get("outputs"):
        _optional(document, "outputs", list, "request")
        return all_outputs(binary=binary or False)
    outputs = []
    for requested in _objects(document, "outputs"):
        name = requested.get("name")
        where = f"output {name!r}"
        parameters = _parameters(requested, where)
        chosen = _optional(parameters, "binary_data", bool, where)
        outputs.append(
            RequestedOutput(
                name=str(name),
                classification=_optional(parameters, "classification", int, where),
                binary=(binary or False) if chosen is None else chosen,
            )
        )
    check_outputs(card, outputs)
    return outputs


def _objects(document: Object, key: str) -> list[Object]:
    """The tensors under a key: at least one."""
    found = document.get(key)
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        return found
    raise UnusableRequestError(f"{key!r} must be a list of objects, one for each tensor")


def _parameters(holder: Object, where: str) -> Object:
    parameters: Object = _optional(holder, "parameters", dict, where) or {}
    if _SHARED_MEMORY in parameters:
        raise UnusableRequestError(f"{where}: shared memory is not served here; send the data")
    return parameters


def _optional(holder: Object, key: str, kind: type, where: str) -> Any:
    """A member that may be missing; null, as some clients send it, counts as missing."""
    value = holder.get(key)
    # `type`, because True is an int.
    if value is None or type(value) is kind:
        return value
    raise UnusableRequestError(f"{where}: {key!r} must be {_JSON_NAME[kind]}")


_JSON_NAME = {
    str: "a string",
    list: "a list",
    dict: "an object",
    bool: "true or false",
    int: "a whole number",
}


def rendered(
    card: ModelCard, request: InferRequest, tensors: Sequence[Tensor]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Body of the answer, and the headers that tell its form.

    Args:
        card: the model that answered.
        request: what was asked; tells which tensors are sent binary.
        tensors: one for each of `request.outputs`.
    """
    outputs = []
    blobs = []
    for tensor, requested in zip(tensors, request.outputs, strict=True):
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if requested.binary:
            blobs.append(tensor.to_bytes())
            output["parameters"] = {_BINARY_SIZE: len(blobs[-1])}
        elif isinstance(tensor.data, list):
            output["data"] = [element.decode() for element in tensor.data]
        else:
            output["data"] = tensor.data.ravel()
        outputs.append(output)
    document: dict[str, Any] = {"model_name": card.name, "model_version": card.version}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = outputs
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blobs:
        return body, [(b"content-type", b"application/json")]
    return b"".join([body, *blobs]), [
        (b"content-type", b"application/octet-stream"),
        (HEADER_LENGTH.lower().encode(), b"%d" % len(body)),
    ]
