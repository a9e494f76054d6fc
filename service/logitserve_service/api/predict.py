"""The forms of `/predict`: an image file, `multipart/form-data` with files, and JSON.

The JSON has images in base64, or pixels as numbers.
"""

import orjson
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from logitserve.inference.card import ModelCard
from logitserve.inference.naming import unknown
from logitserve_service.api.call import Call, Content, Limits, Output
from logitserve_service.api.json_limits import read_json
from logitserve_service.api.json_values import Pixels, check_members, from_base64, pixels_from_json
from logitserve_service.api.options import read_options
from logitserve_service.errors import (
    TooManyImagesError,
    UnreadableRequestError,
    UnusableRequestError,
)
from logitserve_service.execution.job import Image
from logitserve_service.execution.result import Result

FILE_TYPES = (
    *("image/png", "image/jpeg", "image/webp", "image/bmp", "image/gif", "image/tiff"),
    *("image/avif", "application/octet-stream", "binary/octet-stream"),
)
"""Accepted content types. The format of an image is detected from its bytes, whichever type is
sent."""
FORM_FIELD = "file"
MAX_PART_HEADER_BYTES = 1024
JSON = b"content-type: application/json\r\n"
_CHANNELS = (1, 3, 4)


def read_file(content: Content, card: ModelCard, _: Limits) -> Call:
    """Read a body that is one encoded image."""
    return Call([content.body], read_options(content.query, card))


def read_form(content: Content, card: ModelCard, limits: Limits) -> Call:
    """Read `multipart/form-data` (RFC 7578) with one or more files in fields named `file`."""
    options = read_options(content.query, card)
    try:
        images = _files(content, limits.images)
    except MultipartError as error:
        raise UnreadableRequestError(f"the form cannot be read: {error}") from error
    if not images:
        raise UnusableRequestError(f"the form has no field {FORM_FIELD!r}; send each image in one")
    return Call(images, options)


def _files(content: Content, max_images: int) -> list[bytes]:
    _, parameters = parse_options_header(content.fields[b"content-type"].decode("latin-1"))
    boundary = parameters.get("boundary", "").encode("latin-1", "replace")
    images: list[bytes] = []
    with PushMultipartParser(
        boundary, max_header_size=MAX_PART_HEADER_BYTES, strict=True
    ) as parser:
        for event in parser.parse(content.body):
            if isinstance(event, MultipartSegment):
                _check_part(event)
                if len(images) == max_images:
                    raise TooManyImagesError(max_images)
                images.append(b"")
                coding = event.header("Content-Transfer-Encoding", "").lower()
            elif event:  # all data of a part, because the whole body is parsed at once
                images[-1] = event
                if coding == "base64":  # some mail libraries encode files like this
                    where = f"image {len(images) - 1} of the form"
                    images[-1] = from_base64(event.decode("latin-1"), where)
    return images


def _check_part(part: MultipartSegment) -> None:
    if part.name != FORM_FIELD:
        problem = unknown("form field", part.name or "", [FORM_FIELD])
        raise UnusableRequestError(f"{problem}; send each image in a field {FORM_FIELD!r}")
    if part.filename is None and not _is_file(part):
        raise UnusableRequestError(
            f"form field {FORM_FIELD!r} is text, not a file; send the image with a filename "
            f"(curl: -F {FORM_FIELD}=@image.png, with @)"
        )


def _is_file(part: MultipartSegment) -> bool:
    """Return whether a part without a filename is a file; Node's form-data sends buffers so."""
    is_text = (part.content_type or "text/plain").startswith("text/")
    return not is_text or "filename*=" in part["Content-Disposition"].lower()


def read_json_images(content: Content, card: ModelCard, limits: Limits) -> Call:
    """Read `{"images": […]}` or `{"pixels": […]}`."""
    options = read_options(content.query, card)
    images: list[Image]
    document = read_json(content.body, limits)
    if isinstance(document, dict):
        check_members(document, ("images", "pixels"), "the JSON")
    match document:
        case {"images": list(texts), **others} if texts and not others:
            _check_count(len(texts), limits)
            images = [from_base64(text, f"images[{index}]") for index, text in enumerate(texts)]
        case {"pixels": list(numbers), **others} if numbers and not others:
            stacked = _stacked(pixels_from_json(numbers, "pixels"))
            _check_count(len(stacked), limits)
            images = list(stacked)
        case _:
            raise UnusableRequestError(
                'the JSON must be {"images": ["<base64 or data URL>", …]} or {"pixels": '
                "[[0, 255, …], …]}, with at least one image and no other member"
            )
    return Call(images, options)


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.images:
        raise TooManyImagesError(limits.images)


def _stacked(array: Pixels) -> Pixels:
    """Add a missing N; a 3-D array is H×W×C if its last axis is 1, 3 or 4, else N×H×W."""
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS):
        return array[None]
    if array.ndim in (3, 4):
        return array
    raise UnusableRequestError(
        f"pixels: {array.ndim} levels of lists are not H×W, H×W×C, N×H×W or N×H×W×C"
    )


def write(_: Call, result: Result) -> Output:
    """Write the name and version of the model, and one prediction per image."""
    card = result.card
    body = {"model": card.name, "version": card.version, "predictions": result.rendered}
    return orjson.dumps(body), JSON
