"""Decode values of request JSON: images in base64, pixels as numbers."""

import binascii
from collections.abc import Collection, Sequence
from itertools import chain
from math import prod
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from logitserve.inference.naming import unknown
from logitserve_service.errors import UnusableRequestError

_FORGIVEN: Final = dict.fromkeys(map(ord, " \t\n\f\r")) | {ord("-"): "+", ord("_"): "/"}
Pixels = npt.NDArray[np.uint8]


def check_members(holder: Collection[str], known: Collection[str], where: str) -> None:
    """Raise UnusableRequestError for an unknown member of an object, which `where` names."""
    for name in holder:
        if name not in known:
            raise UnusableRequestError(unknown(f"member of {where}:", name, known))


def from_base64(text: object, where: str) -> bytes:
    """Decode base64 or a base64 data URL; errors begin with `where`.

    White space and missing padding are ignored (Infra Standard, "forgiving-base64 decode"). The
    URL-safe alphabet is accepted too (RFC 4648, section 5).
    """
    if not isinstance(text, str):
        raise UnusableRequestError(f"{where} is not a string")
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not (comma and header.lower().endswith(";base64")):
            raise UnusableRequestError(f"{where} is a data URL, but not a base64 one")
        text = unquote(text)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        packed = text.translate(_FORGIVEN)
    try:
        return binascii.a2b_base64(packed + "=" * (-len(packed) % 4), strict_mode=True)
    except ValueError as error:
        raise UnusableRequestError(f"{where} is not base64: {error}") from error


def pixels_from_json(numbers: list[Any], where: str, shape: Sequence[int] | None = None) -> Pixels:
    """Convert lists of whole numbers from 0 to 255 to uint8; errors begin with `where`.

    With a shape, the lists must be nested accordingly, or flat. Without one, any shape is accepted,
    and so are whole floats. Each step runs over all elements in C. Types are checked first, because
    NumPy allocates the length of the longest string for each element.
    """
    elements, found = _flattened(numbers, where, shape)
    if shape is not None and found != list(shape) and found != [prod(shape)]:
        raise _wrong_shape(numbers, where, shape)
    kinds = set(map(type, elements))
    try:
        if kinds == {int}:
            data = bytes(elements)  # raises ValueError unless all are from 0 to 255
        elif shape is None and kinds and kinds <= {int, float}:
            data = _whole(np.array(elements, np.float64)).tobytes()
        else:
            raise ValueError
    except ValueError as error:
        raise UnusableRequestError(
            f"{where}: every number must be whole, from 0 (black) to 255"
        ) from error
    return np.frombuffer(data, np.uint8).reshape(found if shape is None else shape)


def _flattened(
    numbers: list[Any], where: str, shape: Sequence[int] | None
) -> tuple[list[Any], list[int]]:
    """Return the elements of nested lists, and the length of the lists at each level."""
    elements, found = numbers, [len(numbers)]
    while elements and isinstance(elements[0], list):
        lengths = set(map(len, elements)) if set(map(type, elements)) == {list} else set()
        if len(lengths) != 1:
            if shape is not None:
                raise _wrong_shape(numbers, where, shape)
            raise UnusableRequestError(f"{where}: the lists differ in length or depth")
        found += lengths
        elements = list(chain.from_iterable(elements))
    return elements, found


def _wrong_shape(numbers: list[Any], where: str, shape: Sequence[int]) -> UnusableRequestError:
    if numbers and isinstance(numbers[0], list):
        problem = f"its lists are not nested as shape {list(shape)} requires"
    else:
        problem = f"{len(numbers)} elements, but shape {list(shape)} has {prod(shape)}"
    return UnusableRequestError(f"{where}: {problem}")


def _whole(numbers: npt.NDArray[np.float64]) -> Pixels:
    if numbers.min() < 0 or numbers.max() > 255 or (numbers % 1).any():
        raise ValueError
    return numbers.astype(np.uint8)
