"""Pictures as a program has them, as bytes that can be sent."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Encoded = bytes | bytearray | memoryview
Picture = str | Path | Encoded | IO[bytes] | npt.NDArray[np.uint8] | Image.Image
"""A path, an encoded file as bytes or open for reading, an array `[h, w]` or `[h, w, 1 | 3 | 4]`,
or an image of Pillow's."""


def encoded(picture: Picture) -> bytes:
    """A picture as a file's bytes.

    Raises:
        OSError: the file cannot be read.
        ValueError: an array that is not uint8, or not a picture's shape.
    """
    if isinstance(picture, Encoded):
        return bytes(picture)
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    if not isinstance(picture, np.ndarray | Image.Image):
        if not hasattr(picture, "read"):
            raise ValueError(f"{type(picture).__name__} is no picture; see `Picture`")
        content = picture.read()
        if not isinstance(content, bytes):
            raise ValueError("the file is open as text; open it with mode 'rb'")
        return content
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8:
            raise ValueError(f"the array is {picture.dtype}; a picture is uint8, 0 to 255")
        shape = picture.shape
        pixels = picture[..., 0] if len(shape) == 3 and shape[2] == 1 else picture
        try:
            picture = Image.fromarray(np.ascontiguousarray(pixels))
        except TypeError as error:
            raise ValueError(f"an array of shape {list(shape)} is no picture") from error
    picture = ImageOps.exif_transpose(picture)  # PNG keeps no orientation
    if picture.mode in {"CMYK", "YCbCr", "LAB", "HSV", "F"}:  # of which PNG has none
        picture = picture.convert("L" if picture.mode == "F" else "RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def listed(picture: Picture | Sequence[Picture]) -> tuple[Sequence[Picture], bool]:
    """The pictures, and whether there is just one that is not in a list."""
    if isinstance(picture, Sequence) and not isinstance(picture, str | Encoded):
        return picture, False
    return [picture], True
