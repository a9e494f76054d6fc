"""Warnings about changes that preprocessing made to an image."""

from collections.abc import Callable
from enum import StrEnum
from typing import Final


class ImageWarning(StrEnum):
    """A change made to the image, or something missing from it."""

    INVERTED = "inverted"
    """Dark ink on light paper was inverted to light ink on black."""
    TRANSPARENCY_FLATTENED = "transparency-flattened"
    """Transparent pixels were composited onto paper."""
    TURNED_BY_EXIF = "turned-by-exif"
    """The image was rotated or mirrored according to its EXIF orientation."""
    SQUASHED = "squashed"
    """Height and width were scaled by different factors."""
    BLANK = "blank"
    """All pixels are equal, or nearly."""
    NOTHING_FOUND = "nothing-found"
    """Not blank, but without ink: the network's input is empty."""
    OTHER_INK = "other-ink"
    """Ink that is not handwriting was removed: lines, a frame, specks, other objects."""
    CUT_OFF = "cut-off"
    """Ink reaches the border like a shadow, a fold, a table or ruled lines, unlike handwriting."""


NOTHING_WRITTEN: Final = frozenset(
    {ImageWarning.BLANK, ImageWarning.NOTHING_FOUND, ImageWarning.CUT_OFF}
)
"""Warnings that make an image unknown, whatever the network's output is."""


Warn = Callable[[ImageWarning], None]
"""Callback for warnings. None skips the work of finding them."""
