"""Everything that the ground floor raises on purpose.

    InferenceError
    ├── ImageError             the picture cannot be used
    │   ├── UnreadableImageError
    │   ├── TooManyPixelsError
    │   └── PixelArrayError
    ├── NonFiniteLogitsError   the network answered NaN or infinity
    ├── CoverageError          no prediction sets of that coverage, or none at all
    ├── ModelFileError         this model file must not be served
    │   ├── FileChangedError
    │   ├── CardMissingError
    │   ├── CardInvalidError
    │   ├── CardMismatchError
    │   └── GoldenMismatchError
    └── RepositoryError        the folder of models
        ├── NoModelsError
        ├── ModelNotFoundError
        └── PublishError

The message of each is one line for the person who made the mistake: what is wrong and what to do.
"""

from collections.abc import Sequence


class InferenceError(Exception):
    """Base of every error that this package raises on purpose."""


class ImageError(InferenceError):
    """The picture cannot be used."""

    picture: int | None = None
    """Which one of several, counted from 0, where there are several."""


class UnreadableImageError(ImageError):
    """The bytes are not a whole picture of a format that is read here."""


class TooManyPixelsError(ImageError):
    """The picture's header announces more pixels than are allowed."""

    def __init__(self, width: int, height: int | None, max_pixels: int) -> None:
        """Say how many.

        Args:
            width: of the picture; where its height is not known, the number of its pixels.
            height: of the picture.
            max_pixels: the limit.
        """
        self.max_pixels = max_pixels
        size = f"{width}" if height is None else f"{width}×{height} = {width * height}"
        super().__init__(f"the picture is {size} pixels; the limit is {max_pixels} pixels")


class PixelArrayError(ImageError):
    """The numbers are not a picture: wrong shape, not whole, or outside 0 to 255."""


class NonFiniteLogitsError(InferenceError):
    """The network answered NaN or infinity, so there are no probabilities to give."""

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = tuple(rows)
        named = ", ".join(map(str, self.rows[:5])) + (", …" if len(self.rows) > 5 else "")
        super().__init__(
            f"the network's logits are not finite for picture {named} of the batch "
            "(counted from 0); the model file is not fit for this input"
        )


class CoverageError(InferenceError):
    """The coverage is outside the range, or the model has no prediction sets."""


class ModelFileError(InferenceError):
    """This model file must not be served."""


class FileChangedError(ModelFileError):
    """The file was written to, or went, while it was read."""


class CardMissingError(ModelFileError):
    """The ONNX file carries no card."""


class CardInvalidError(ModelFileError):
    """The card is not one that this version reads."""


class CardMismatchError(ModelFileError):
    """The card says one thing and the graph another."""


class GoldenMismatchError(ModelFileError):
    """The file does not give the logits that training saw for its golden pictures."""


class RepositoryError(InferenceError):
    """The folder of models does not hold what was asked for."""


class NoModelsError(RepositoryError):
    """The folder of models is missing or has no model in it."""


class ModelNotFoundError(RepositoryError):
    """There is no such model, or no such version of it."""


class PublishError(RepositoryError):
    """The new version could not be put in its place; what was there is untouched."""
