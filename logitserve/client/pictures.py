"""Convert pictures of a program into encoded bytes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Encoded = bytes | bytearray | memoryview
Picture = str | Path | Encoded | IO[bytes] | npt.NDArray[np.uint8] | Image.Image
"""A path, an encoded file as bytes or as a binary file object, an array `[h, w]` or
`[h, w, 1 | 3 | 4]`, or a Pillow image."""


def encoded(picture: Picture) -> bytes:
    """Return a picture as the bytes of an image file.

    Raises:
        OSError: the file cannot be read.
        ValueError: the array is not uint8, or has no picture's shape.
    """
    if isinstance(picture, Encoded):
        return bytes(picture)
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    if not isinstance(picture, np.ndarray | Image.Image):
        if not hasattr(picture, "read"):
            raise ValueError(f"{type(picture).__name__} is not a picture; see `Picture`")
        content = picture.read()
        if not isinstance(content, bytes):
            raise ValueError("the file is open in text mode; open it with mode 'rb'")
        return content
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8:
            raise ValueError(f"the array is {picture.dtype}; a picture must be uint8, 0 to 255")
        shape = picture.shape
        pixels = picture[..., 0] if len(shape) == 3 and shape[2] == 1 else picture
        try:
            picture = Image.fromarray(np.ascontiguousarray(pixels))
        except TypeError as error:
            raise ValueError(f"an array of shape {list(shape)} is not a picture") from error
    picture = ImageOps.exif_transpose(picture)  # PNG does not store an orientation
    if picture.mode in {"CMYK", "YCbCr", "LAB", "HSV", "F"}:  # not supported by PNG
        picture = picture.convert("L" if picture.mode == "F" else "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def listed(picture: Picture | Sequence[Picture]) -> tuple[Sequence[Picture], bool]:
    """Return the pictures as a sequence, and whether the input was a single picture."""
    if isinstance(picture, Sequence) and not isinstance(picture, str | Encoded):
        return picture, False
    return [picture], True
