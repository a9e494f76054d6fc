"""Every error that `logitserve.inference` raises on purpose.

    InferenceError
    ├── ImageError             the image cannot be used
    │   ├── UnreadableImageError
    │   ├── TooManyPixelsError
    │   └── PixelArrayError
    ├── NonFiniteLogitsError   the network's output is NaN or infinite
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
        ├── PublishError
        └── RolloutError       what should answer cannot

Each message is one line: what is wrong and what to do.
"""

from collections.abc import Sequence


class InferenceError(Exception):
    """Base of every error that this package raises on purpose."""


class ImageError(InferenceError):
    """The image cannot be used."""

    image: int | None = None
    """Which one of several, counted from 0, where there are several."""


class UnreadableImageError(ImageError):
    """The bytes are not a whole image of a format that is read here."""


class TooManyPixelsError(ImageError):
    """The image's header announces more pixels than are allowed."""

    def __init__(self, width: int, height: int | None, max_pixels: int) -> None:
        """Describe the image.

        Args:
            width: of the image; where its height is not known, the number of its pixels.
            height: of the image.
            max_pixels: the limit.
        """
        self.max_pixels = max_pixels
        size = f"{width}" if height is None else f"{width}×{height} = {width * height}"
        super().__init__(f"the image is {size} pixels; the limit is {max_pixels} pixels")


class PixelArrayError(ImageError):
    """The numbers are not an image: wrong shape, not whole, or outside 0 to 255."""


class NonFiniteLogitsError(InferenceError):
    """The network's output is NaN or infinite, so there are no probabilities."""

    def __init__(self, rows: Sequence[int] = ()) -> None:
        """Name the images.

        Args:
            rows: which of several, counted from 0; none where there is but one.
        """
        self.rows = tuple(rows)
        named = ", ".join(map(str, self.rows[:5])) + (", …" if len(self.rows) > 5 else "")
        which = f"image {named} of the request (counted from 0)" if rows else "this image"
        super().__init__(
            f"the network's logits are not finite for {which}; "
            "the model file is not fit for this input"
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
    """The card and the graph contradict each other."""


class GoldenMismatchError(ModelFileError):
    """The file does not give the logits that training saw for its golden images."""


class RepositoryError(InferenceError):
    """The folder of models does not hold what was asked for."""


class NoModelsError(RepositoryError):
    """The folder of models is missing or has no model in it."""


class ModelNotFoundError(RepositoryError):
    """There is no such model, or no such version of it."""


class PublishError(RepositoryError):
    """The new version could not be put in its place; what was there is untouched."""


class RolloutError(RepositoryError):
    """The versions that should answer cannot, or a rollout is not readable."""
