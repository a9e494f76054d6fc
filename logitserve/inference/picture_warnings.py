"""What happens to a picture on its way to the network that its sender may not expect.

Whoever prepares pictures reports to a `Warn` while preparing, so that what is said is what was
done. Nobody asks in the hot path: there it is None, and no work is done for it.
"""

from collections.abc import Callable
from enum import StrEnum


class PictureWarning(StrEnum):
    """One thing that was done to the picture, or not found in it."""

    INVERTED = "inverted"
    """Dark ink on light paper became light ink on black."""
    TRANSPARENCY_FLATTENED = "transparency-flattened"
    """Pixels that let something through were put on paper."""
    TURNED_BY_EXIF = "turned-by-exif"
    """The file says how the camera was held, so it was turned or mirrored."""
    SQUASHED = "squashed"
    """Height and width were scaled by different factors."""
    BLANK = "blank"
    """Every pixel is the same, or nearly."""
    NOTHING_FOUND = "nothing-found"
    """Not blank, but nothing in it looks like ink: the network gets an empty picture."""


Warn = Callable[[PictureWarning], None]
"""Takes a warning as it arises."""
