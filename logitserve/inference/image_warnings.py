"""What preprocessing does to an image that its sender may not expect."""

from collections.abc import Callable
from enum import StrEnum


class ImageWarning(StrEnum):
    """One thing that was done to the image, or not found in it."""

    INVERTED = "inverted"
    """Dark ink on light paper became light ink on black."""
    TRANSPARENCY_FLATTENED = "transparency-flattened"
    """Transparent pixels were put on paper."""
    TURNED_BY_EXIF = "turned-by-exif"
    """The image was turned or mirrored by its EXIF orientation."""
    SQUASHED = "squashed"
    """Height and width were scaled by different factors."""
    BLANK = "blank"
    """Every pixel is the same, or nearly."""
    NOTHING_FOUND = "nothing-found"
    """Not blank, but nothing in it looks like ink: the network gets an empty image."""


Warn = Callable[[ImageWarning], None]
"""Takes a warning as it arises. None in the hot path, where no work is done for it."""
