"""Tensors of the Open Inference Protocol (v2), shared by REST and gRPC.

A model has one input, `image`: UINT8 `[n, height, width, channels]`, exactly what the network
takes, or BYTES `[n]`, each an encoded image. It has the outputs `logits` FP32 `[n, k]`,
`probabilities` FP32 `[n, classes]` and `argmax` INT64 `[n]`. An output that is requested with
`classification: k` is BYTES `[n, k]` instead, "value:index:label" (Triton's extension).
"""

import math
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import ModelCard
from logitserve.inference.naming import unknown
from logitserve.inference.predictor import INPUT
from logitserve_service.errors import TooManyImagesError, UnusableRequestError
from logitserve_service.execution.job import Inputs
from logitserve_service.execution.result import Result

PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data", "classification")
"""The extensions in the server metadata."""
MODEL_REPOSITORY = "model_repository"
"""An extension of REST only: the gRPC API cannot load and unload models."""

LOGITS, PROBABILITIES, ARGMAX = OUTPUTS = ("logits", "probabilities", "argmax")
DATATYPES = {LOGITS: "FP32", PROBABILITIES: "FP32", ARGMAX: "INT64"}
UINT8, BYTES = INPUT_DATATYPES = ("UINT8", "BYTES")
THE_INPUT = f"input {INPUT!r}"

READ_PARAMETERS = ("binary_data_size", "binary_data", "binary_data_output", "classification")
BINARY_SIZE, BINARY_DATA, BINARY_OUTPUT, CLASSIFICATION = READ_PARAMETERS
PREDICTION_ID = "prediction_id"
"""Response parameter: the ids of its predictions, separated by commas."""
_PARAMETERS_COMPARED = 16
_LENGTH = struct.Struct("<I")  # length prefix of each element of a BYTES tensor


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a client requests."""

    name: str
    classification: int | None = None  # number of top classes; None: the tensor itself
    binary: bool = False  # whether its data follow the JSON as binary


@dataclass(frozen=True, slots=True)
class InferForm:
    """The parts of the request that the response needs; the value of `Call.form`."""

    id: str | None
    outputs: Sequence[RequestedOutput]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output; the data are little-endian numbers, or BYTES elements, in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | list[bytes]

    def to_bytes(self) -> bytes:
        """Return binary data; each element of BYTES is preceded by its length."""
        if isinstance(self.data, list):
            return b"".join(_LENGTH.pack(len(element)) + element for element in self.data)
        return self.data.tobytes()


def metadata(card: ModelCard) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the inputs and outputs of a model; -1 stands for a variable number of images."""
    widths = {LOGITS: [card.logit_count], PROBABILITIES: [len(card.labels)], ARGMAX: []}
    inputs = [{"name": INPUT, "datatype": UINT8, "shape": [-1, *card.input.shape]}]
    outputs = [
        {"name": name, "datatype": DATATYPES[name], "shape": [-1, *widths[name]]}
        for name in OUTPUTS
    ]
    return inputs, outputs


def check_parameters(names: Collection[str], where: str) -> None:
    """Refuse shared memory and misspelled names; ignore parameters of other servers."""
    if "shared_memory_region" in names:
        raise UnusableRequestError(f"{where}: shared memory is not supported; send the data")
    for name in islice(names, _PARAMETERS_COMPARED):
        if name not in READ_PARAMETERS and get_close_matches(name[:32], READ_PARAMETERS, 1, 0.85):
            raise UnusableRequestError(unknown(f"parameter of {where}:", name, READ_PARAMETERS))


def check_input(
    card: ModelCard, name: object, datatype: object, shape: Sequence[object], max_images: int
) -> int:
    """Check name, datatype and shape of an input; return its number of images."""
    if name != INPUT:
        raise UnusableRequestError(
            f"no input {name!r}; model {card.name!r} has one input, {INPUT!r}"
        )
    if datatype not in INPUT_DATATYPES:
        raise UnusableRequestError(
            f"{THE_INPUT}: datatype {datatype!r}; it takes {UINT8} (pixels) or {BYTES} "
            "(encoded images)"
        )
    expected = card.input.shape if datatype == UINT8 else ()
    count = shape[0] if shape else None
    fits = len(shape) == 1 + len(expected) and tuple(shape[1:]) == expected
    # `type`, because True is an int and 1.0 == 1.
    fits = fits and all(type(size) is int for size in shape)
    if not fits or not isinstance(count, int) or count < 1:
        raise UnusableRequestError(
            f"{THE_INPUT}: shape {list(shape[:8])}; {datatype} takes "
            f"[{', '.join(['n', *map(str, expected)])}] with n of at least 1"
        )
    if count > max_images:
        raise TooManyImagesError(max_images)
    return count


def check_outputs(
    card: ModelCard, outputs: Iterable[RequestedOutput]
) -> tuple[RequestedOutput, ...]:
    """Check the requested outputs one by one, before the next one is read."""
    checked: dict[str, RequestedOutput] = {}
    for output in outputs:
        _check_output(card, output)
        if output.name in checked:
            raise UnusableRequestError(f"outputs: {output.name!r} is requested twice")
        checked[output.name] = output
    return tuple(checked.values())


def _check_output(card: ModelCard, output: RequestedOutput) -> None:
    name, count = output.name, output.classification
    if name not in OUTPUTS:
        raise UnusableRequestError(
            f"no output {name!r}; model {card.name!r} has {', '.join(OUTPUTS)}"
        )
    if count is not None and name == ARGMAX:
        raise UnusableRequestError(
            f"output {ARGMAX!r} is a class already; request the classification of "
            f"{PROBABILITIES!r} or {LOGITS!r}"
        )
    if count is not None and count < 1:
        raise UnusableRequestError(
            f"output {name!r}: classification must be at least 1, it is {count}"
        )


@lru_cache
def all_outputs(*, binary: bool = False) -> tuple[RequestedOutput, ...]:
    """Return the outputs for a request that names none."""
    return tuple(RequestedOutput(name, binary=binary) for name in OUTPUTS)


def unpack(card: ModelCard, datatype: str, count: int, data: memoryview) -> Inputs:
    """Unpack images from binary data: UINT8 without a copy, or BYTES with length prefixes."""
    if datatype == BYTES:
        return _elements(count, data)
    shape = (count, *card.input.shape)
    if len(data) != math.prod(shape):
        raise UnusableRequestError(
            f"{THE_INPUT}: {len(data)} bytes of data, but shape {list(shape)} of {UINT8} has "
            f"{math.prod(shape)}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _elements(count: int, data: memoryview) -> list[bytes]:
    elements: list[bytes] = []
    position = 0
    while position < len(data):
        begin = position + _LENGTH.size
        if begin > len(data) or len(elements) == count:
            break
        position = begin + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            break
        elements.append(bytes(data[begin:position]))
    if position != len(data) or len(elements) != count:
        raise UnusableRequestError(
            f"{THE_INPUT}: its {len(data)} bytes are not {count} {BYTES} elements, each after "
            "its length as 4 little-endian bytes"
        )
    return elements


def output_tensors(result: Result, requested: Iterable[RequestedOutput]) -> list[Tensor]:
    """Return the requested outputs, in the order of the request."""
    tensors = []
    for output in requested:
        dtype = "<i8" if output.name == ARGMAX else "<f4"
        data: npt.NDArray[Any] = np.ascontiguousarray(result.output(output.name), dtype)
        if output.classification is None:
            tensors.append(Tensor(output.name, DATATYPES[output.name], data.shape, data))
        else:
            tensors.append(_classified(result.card, output.name, data, output.classification))
    return tensors


def _classified(card: ModelCard, name: str, values: npt.NDArray[Any], count: int) -> Tensor:
    """Return the highest values as "value:index:label"; ties are ordered by index.

    There are at most as many as classes. The single logit of a binary model has no label and gives
    "value:index".
    """
    labels = card.labels if values.shape[1] == len(card.labels) else None
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    elements = []
    for row, indices in zip(values, order.tolist(), strict=True):
        for index in indices:
            text = f"{row[index]}:{index}"
            elements.append((text if labels is None else f"{text}:{labels[index]}").encode())
    return Tensor(name, BYTES, order.shape, elements)
