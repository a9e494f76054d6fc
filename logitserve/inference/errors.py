"""Every error that `logitserve.inference` raises on purpose.

    InferenceError
    ├── ImageError             the image cannot be used
    │   ├── UnreadableImageError
    │   ├── TooManyPixelsError
    │   └── PixelArrayError
    ├── NonFiniteLogitsError   the network's output is NaN or infinite
    ├── CoverageError          the coverage is not supported
    ├── ExplanationError       the label or method does not exist for this model
    ├── ModelFileError         the model file must not be served
    │   ├── FileChangedError
    │   ├── CardMissingError
    │   ├── CardInvalidError
    │   ├── CardMismatchError
    │   └── GoldenMismatchError
    └── RepositoryError        the folder of models has a problem
        ├── NoModelsError
        ├── ModelNotFoundError
        ├── PublishError
        └── RolloutError       a rollout is invalid or names a missing version

Each message is one line: the problem and the remedy.
"""

from collections.abc import Sequence


class InferenceError(Exception):
    """Base class of every error that this package raises on purpose."""


class ImageError(InferenceError):
    """The image cannot be used."""

    image: int | None = None
    """Index in the request, from 0; None for a single image."""


class UnreadableImageError(ImageError):
    """The bytes are not a complete image of a supported format."""


class TooManyPixelsError(ImageError):
    """The image has more pixels than are allowed, according to its header."""

    def __init__(self, width: int, height: int | None, max_pixels: int) -> None:
        """Build the message.

        Args:
            width: width of the image, or its number of pixels if the height is unknown.
            height: height of the image.
            max_pixels: the limit.
        """
        self.max_pixels = max_pixels
        size = f"{width}" if height is None else f"{width}×{height} = {width * height}"
        super().__init__(f"the image is {size} pixels; the limit is {max_pixels} pixels")


class PixelArrayError(ImageError):
    """The array is not an image: wrong shape, not integers, or outside 0 to 255."""


class NonFiniteLogitsError(InferenceError):
    """The network's output is NaN or infinite, so there are no probabilities."""

    def __init__(self, rows: Sequence[int] = ()) -> None:
        """Build the message.

        Args:
            rows: indices of the images, from 0; empty for a single image.
        """
        self.rows = tuple(rows)
        named = ", ".join(map(str, self.rows[:5])) + (", …" if len(self.rows) > 5 else "")
        which = f"image {named} of the request (counted from 0)" if rows else "this image"
        super().__init__(
            f"the network's logits are not finite for {which}; "
            "the model file is not suitable for this input"
        )


class CoverageError(InferenceError):
    """The coverage is outside the range, or the model has no prediction sets."""


class ExplanationError(InferenceError):
    """The label does not exist, or the method does not apply to the model."""


class ModelFileError(InferenceError):
    """The model file must not be served."""


class FileChangedError(ModelFileError):
    """The file was modified or removed while it was read."""


class CardMissingError(ModelFileError):
    """The ONNX file has no model card."""


class CardInvalidError(ModelFileError):
    """The card is not valid in this version."""


class CardMismatchError(ModelFileError):
    """The card and the graph contradict each other."""


class GoldenMismatchError(ModelFileError):
    """The file's logits for its golden images differ from the recorded ones."""


class RepositoryError(InferenceError):
    """The folder of models does not contain the requested item."""


class NoModelsError(RepositoryError):
    """The folder of models is missing or has no models."""


class ModelNotFoundError(RepositoryError):
    """The model or version does not exist."""


class PublishError(RepositoryError):
    """The new version could not be published; existing versions are unchanged."""


class RolloutError(RepositoryError):
    """A rollout is unreadable or invalid, or names a missing version."""
