"""Tensors of the Open Inference Protocol (v2), the same for each transport that carries them.

A model has one input, `image`: UINT8 `[n, height, width, channels]`, exactly what the network
takes, or BYTES `[n]`, each an encoded picture. It has the outputs `logits` FP32 `[n, k]`,
`probabilities` FP32 `[n, classes]` and `argmax` INT64 `[n]`. An output that is asked for with
`classification: k` is BYTES `[n, k]` instead, "value:index:label" (Triton's extension).
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import INPUT, Predictions
from logitserve_service.errors import TooManyPicturesError, UnusableRequestError
from logitserve_service.execution.batcher import Batcher
from logitserve_service.execution.classify import Classifier, Departure, Timing

PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data", "classification")
"""What the server metadata names: the extensions that are there in full."""
MODEL_REPOSITORY = "model_repository"
"""One that is there over REST: gRPC cannot load and unload."""

LOGITS, PROBABILITIES, ARGMAX = OUTPUTS = ("logits", "probabilities", "argmax")
DATATYPES = {LOGITS: "FP32", PROBABILITIES: "FP32", ARGMAX: "INT64"}
UINT8, BYTES = INPUT_DATATYPES = ("UINT8", "BYTES")

_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor

Pixels = npt.NDArray[np.uint8]
Pictures = Pixels | list[bytes]
"""uint8 `[n, height, width, channels]`, or n encoded files."""


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a client asks for."""

    name: str
    classification: int | None = None
    """How many of the classes with the highest values, as text; none: the tensor itself."""
    binary: bool = False
    """Whether its data stand behind the JSON (only where there is JSON)."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An output as it is sent."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: npt.NDArray[Any] | list[bytes]
    """C-contiguous, little-endian; or the elements of a BYTES tensor in row-major order."""

    def to_bytes(self) -> bytes:
        """Row-major, little-endian; the elements of BYTES each behind their length."""
        if isinstance(self.data, list):
            return b"".join(_LENGTH.pack(len(element)) + element for element in self.data)
        return self.data.tobytes()


def metadata(card: ModelCard) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs of a model as its metadata names them; -1 stands for any number."""
    widths = {LOGITS: [card.logit_count], PROBABILITIES: [len(card.labels)], ARGMAX: []}
    inputs = [{"name": INPUT, "datatype": UINT8, "shape": [-1, *card.input.shape]}]
    outputs = [
        {"name": name, "datatype": DATATYPES[name], "shape": [-1, *widths[name]]}
        for name in OUTPUTS
    ]
    return inputs, outputs


def check_input(
    card: ModelCard, name: object, datatype: object, shape: Sequence[object], *, max_pictures: int
) -> int:
    """Hold what an input says of itself against the model.

    Returns:
        how many pictures it says that it holds.

    Raises:
        UnusableRequestError: another name, datatype or shape.
        TooManyPicturesError: more than `max_pictures`.
    """
    if name != INPUT:
        raise UnusableRequestError(
            f"no input {name!r}; model {card.name!r} has one input, {INPUT!r}"
        )
    if datatype not in INPUT_DATATYPES:
        raise UnusableRequestError(
            f"input {INPUT!r}: datatype {datatype!r}; it takes {UINT8} (pixels) or {BYTES} "
            "(encoded pictures)"
        )
    expected = card.input.shape if datatype == UINT8 else ()
    # `type`, because True is an int and 1.0 == 1.
    fits = all(type(size) is int for size in shape) and tuple(shape[1:]) == expected
    if not fits or not shape or not isinstance(shape[0], int) or shape[0] < 1:
        raise UnusableRequestError(
            f"input {INPUT!r}: shape {list(shape)}; {datatype} takes "
            f"[{', '.join(['n', *map(str, expected)])}] with n of at least 1"
        )
    if shape[0] > max_pictures:
        raise TooManyPicturesError(max_pictures)
    return shape[0]


def check_output(card: ModelCard, output: RequestedOutput) -> None:
    """Hold a requested output against the model.

    Raises:
        UnusableRequestError: another name, or a classification that cannot be.
    """
    if output.name not in OUTPUTS:
        raise UnusableRequestError(
            f"no output {output.name!r}; model {card.name!r} has {', '.join(OUTPUTS)}"
        )
    if output.classification is None:
        return
    if output.name == ARGMAX:
        raise UnusableRequestError(
            f"output {ARGMAX!r} is a class already; ask for the classification of "
            f"{PROBABILITIES!r} or {LOGITS!r}"
        )
    if output.classification < 1:
        raise UnusableRequestError(
            f"output {output.name!r}: classification must be at least 1, "
            f"it is {output.classification}"
        )


def check_outputs(card: ModelCard, outputs: Sequence[RequestedOutput]) -> None:
    """Hold the requested outputs against the model.

    Raises:
        UnusableRequestError: see `check_output`, or one is asked for twice.
    """
    for output in outputs:
        check_output(card, output)
    if len({output.name for output in outputs}) != len(outputs):
        raise UnusableRequestError("outputs: one of them is asked for twice")


def all_outputs(*, binary: bool = False) -> list[RequestedOutput]:
    """What a client gets that names none."""
    return [RequestedOutput(name, binary=binary) for name in OUTPUTS]


def unpacked(datatype: str, count: int, shape: tuple[int, ...], data: memoryview) -> Pictures:
    """The pictures of an input whose data are binary.

    Args:
        datatype: UINT8 or BYTES.
        count: how many the input says that it holds.
        shape: height, width and channels of each, for UINT8.
        data: row-major pixels, which are not copied; or elements, each behind its length.

    Raises:
        UnusableRequestError: it has another number of bytes than it must have.
    """
    if datatype == BYTES:
        return _elements(count, data)
    expected = count * math.prod(shape)
    if len(data) != expected:
        raise UnusableRequestError(
            f"input {INPUT!r}: {len(data)} bytes of data, but shape {[count, *shape]} "
            f"of {UINT8} has {expected}"
        )
    return np.frombuffer(data, np.uint8).reshape(count, *shape)


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
            f"input {INPUT!r}: its {len(data)} bytes are not {count} {BYTES} elements, "
            "each behind its length as 4 little-endian bytes"
        )
    return elements


async def infer(
    classifier: Classifier, model: Batcher, pictures: Pictures, departure: Departure
) -> tuple[Predictions, Timing]:
    """Ask a model; pixels go to it as they are, encoded pictures are decoded and fitted.

    Raises:
        ClientGoneError, ImageError, NonFiniteLogitsError, QueueFullError: see
            `Classifier.classify`.
    """
    if isinstance(pictures, list):
        return await classifier.classify(model, pictures, departure)
    return await classifier.classify_tensor(model, pictures, departure)


def answered(
    card: ModelCard, predictions: Predictions, requested: Sequence[RequestedOutput]
) -> list[Tensor]:
    """The outputs that were asked for, in that order."""
    tensors = []
    for output in requested:
        if output.name == ARGMAX:
            data: npt.NDArray[Any] = np.ascontiguousarray(predictions.argmax, "<i8")
        elif output.name == LOGITS:
            data = np.ascontiguousarray(predictions.logits, "<f4")
        else:
            data = np.ascontiguousarray(predictions.probabilities, "<f4")
        if output.classification is None:
            tensors.append(Tensor(output.name, DATATYPES[output.name], data.shape, data))
        else:
            tensors.append(_classified(card, output.name, data, output.classification))
    return tensors


def _classified(card: ModelCard, name: str, values: npt.NDArray[Any], count: int) -> Tensor:
    """The highest values as "value:index:label" (Triton's classification extension).

    There are at most as many as classes. Of equal values the lower index comes first. The one
    logit of a binary model belongs to no label, so there it is "value:index".
    """
    labels = card.labels if values.shape[1] == len(card.labels) else None
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    elements = []
    for row, indices in zip(values, order.tolist(), strict=True):
        for index in indices:
            text = f"{row[index]}:{index}"
            elements.append((text if labels is None else f"{text}:{labels[index]}").encode())
    return Tensor(name, BYTES, order.shape, elements)
