"""The body of a request → pictures. Each content type is read in one function."""

import base64
import binascii
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from logitserve.inference.errors import PixelArrayError
from logitserve_service.api.json_limits import read_json
from logitserve_service.errors import (
    ClientGoneError,
    TooManyPicturesError,
    UnreadableRequestError,
    UnsupportedMediaTypeError,
    UnusableRequestError,
)
from logitserve_service.execution.classify import Departure, Picture
from logitserve_service.http.limits import RequestLimits

IMAGE_TYPES = (
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/bmp",
    "image/gif",
    "image/tiff",
    "application/octet-stream",
)
"""Types of a body that is one encoded picture; which format it is, its own bytes tell."""

FILE_FIELD = "file"
CHANNELS = (1, 3, 4)
MAX_FORM_PART_BYTES = 1024
"""Bytes of a form part that is no file, and so is refused anyway."""


async def read_pictures(request: Request, limits: RequestLimits) -> list[Picture]:
    """Read the pictures of a request, whichever of the three kinds of body it has.

    Raises:
        UnsupportedMediaTypeError: another content type.
        UnreadableRequestError: not the JSON or the multipart form that it says it is.
        UnusableRequestError: readable, but without pictures in the places where they belong.
        TooManyPicturesError: more than are allowed.
        JsonTooLargeError, JsonTooDeepError: see `read_json`.
        PixelArrayError: `pixels` that are not 0 to 255 or not a picture's shape.
        BodyTooLargeError, TooManyBytesError: see `Bodies.limited`.
    """
    content_type = request.headers.get("content-type", "application/octet-stream")
    media_type = content_type.partition(";")[0].strip().lower()
    reader = _READERS.get(media_type)
    if reader is None:
        raise UnsupportedMediaTypeError(
            f"content type {media_type!r} is not read here; send a picture as {IMAGE_TYPES[0]} "
            f"(or {', '.join(IMAGE_TYPES[1:])}), multipart/form-data with {FILE_FIELD!r} fields, "
            "or application/json"
        )
    pictures = await reader(request, limits)
    if len(pictures) > limits.pictures:
        raise TooManyPicturesError(limits.pictures)
    return pictures


async def read_body(receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ClientGoneError: the client went away before its end.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message["body"]
        return body
    chunks = []
    while message["type"] == "http.request":
        chunks.append(message["body"])
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()
    raise ClientGoneError


def departure(receive: Receive) -> Departure:
    """What waits until the client has gone; to be awaited when its body has been read."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return gone


async def _read_encoded(request: Request, _: RequestLimits) -> list[Picture]:
    return [await read_body(request.receive)]


class _Form(MultiPartParser):
    """Stops at the first part that is too many; Starlette's limits would not say whose it is."""

    def __init__(self, request: Request, max_pictures: int) -> None:
        super().__init__(request.headers, request.stream(), max_part_size=MAX_FORM_PART_BYTES)
        self.max_files = self.max_fields = math.inf
        self._max_pictures = max_pictures
        self._parts = 0

    def on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > self._max_pictures:
            raise TooManyPicturesError(self._max_pictures)
        super().on_part_begin()


async def _read_multipart(request: Request, limits: RequestLimits) -> list[Picture]:
    try:
        form = await _Form(request, limits.pictures).parse()
    except MultiPartException as error:
        raise UnreadableRequestError(f"the form cannot be read: {error.message}") from error
    except UnicodeError as error:  # of a charset that the client chose
        raise UnreadableRequestError("the form cannot be read: its charset does not fit") from error
    except ClientDisconnect as error:
        raise ClientGoneError from error
    pictures: list[Picture] = []
    try:
        for name, value in form.multi_items():
            if name != FILE_FIELD or not isinstance(value, UploadFile):
                raise UnusableRequestError(
                    f"form field {name!r} is not a file named {FILE_FIELD!r}; "
                    f"send each picture as a file in a field {FILE_FIELD!r}"
                )
            pictures.append(await value.read())
    finally:
        await form.close()
    if not pictures:
        raise UnusableRequestError(f"the form has no {FILE_FIELD!r} field")
    return pictures


async def _read_json(request: Request, limits: RequestLimits) -> list[Picture]:
    document = read_json(await read_body(request.receive), limits)
    match document:
        case {"images": list(images), **others} if images and not others:
            if len(images) > limits.pictures:
                raise TooManyPicturesError(limits.pictures)
            return [from_base64(image, f"images[{index}]") for index, image in enumerate(images)]
        case {"pixels": list(numbers), **others} if numbers and not others:
            return list(from_numbers(numbers))
    raise UnusableRequestError(
        'the JSON must be {"images": ["<base64 or data URL>", …]} or {"pixels": [[0, 255, …], …]}, '
        "with at least one picture and nothing else beside it"
    )


_READERS: Mapping[str, Callable[[Request, RequestLimits], Awaitable[list[Picture]]]] = {
    **dict.fromkeys(IMAGE_TYPES, _read_encoded),
    "multipart/form-data": _read_multipart,
    "application/json": _read_json,
}


def from_base64(text: object, where: str) -> bytes:
    """Base64 or a base64 data URL → the file that it holds; `where` names it in errors.

    Raises:
        UnusableRequestError: it is neither.
    """
    if not isinstance(text, str):
        raise UnusableRequestError(f"{where} is not a string")
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        if not (comma and header.endswith(";base64")):
            raise UnusableRequestError(f"{where} is a data URL, but not a base64 one")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UnusableRequestError(f"{where} is not base64: {error}") from error


def from_numbers(numbers: list[Any]) -> list[npt.NDArray[np.uint8]]:
    """Nested lists of whole numbers from 0 to 255 → pictures.

    Args:
        numbers: H×W, H×W×C, N×H×W or N×H×W×C. Three levels are H×W×C where the innermost
            has 1, 3 or 4 numbers, and N×H×W otherwise.

    Returns:
        uint8 arrays, `[h, w]` or `[h, w, c]`.

    Raises:
        PixelArrayError: ragged, another depth, not whole, or out of range.
    """
    try:
        array = np.array(numbers)
    except ValueError as error:
        raise PixelArrayError("pixels: the lists differ in length or depth") from error
    is_number = array.dtype.kind in "iuf" and array.size
    if not is_number or array.min() < 0 or array.max() > 255:
        raise PixelArrayError("pixels: every number must be whole, from 0 (black) to 255")
    given, array = array, array.astype(np.uint8)
    if given.dtype.kind == "f" and not np.array_equal(given, array):
        raise PixelArrayError("pixels: every number must be whole, from 0 (black) to 255")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return [array]
    if array.ndim in (3, 4):
        return list(array)
    raise PixelArrayError(
        f"pixels: {array.ndim} levels of lists are not H×W, H×W×C, N×H×W or N×H×W×C"
    )
