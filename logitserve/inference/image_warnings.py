"""What preprocessing does to an image that its sender may not expect."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final


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
    OTHER_INK = "other-ink"
    """Ink that is no handwriting was left out: lines, a frame, specks, other things."""
    CUT_OFF = "cut-off"
    """Ink leaves the image as a shadow, a fold, a table or ruled lines do, not as handwriting."""


NOTHING_WRITTEN: Final = frozenset(
    {ImageWarning.BLANK, ImageWarning.NOTHING_FOUND, ImageWarning.CUT_OFF}
)
"""Of an image with one of these nothing is known, whatever the network says."""


Warn = Callable[[ImageWarning], None]
"""Takes a warning as it arises. Where it is None no work is done for it."""
