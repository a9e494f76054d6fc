"""The use case: pictures in, predictions out. Knows no request object."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from anyio import to_thread

from inference import pixels
from inference.errors import ImageError
from inference.predictor import Predictions, Predictor

Picture = bytes | npt.NDArray[np.uint8]
"""An encoded file, or pixels: uint8 `[h, w]` or `[h, w, channels]`."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The predictions of one request, in the order of its pictures, and where its time went."""

    predictions: Predictions
    seconds: dict[str, float]


class Classifier:
    """Decodes pictures and asks a model, away from the event loop."""

    def __init__(self, *, max_pixels: int) -> None:
        self.max_pixels = max_pixels

    async def classify(self, model: Predictor, pictures: Sequence[Picture]) -> Classification:
        """Ask a model about pictures.

        Raises:
            ImageError: a picture cannot be used; its `picture` attribute counts from 0.
            NonFiniteLogitsError: the network has no answer.
        """
        return await to_thread.run_sync(self._classify, model, pictures)

    def _classify(self, model: Predictor, pictures: Sequence[Picture]) -> Classification:
        begun = time.perf_counter()
        images = np.stack([self._fitted(model, picture, i) for i, picture in enumerate(pictures)])
        decoded = time.perf_counter()
        predictions = model.predict(images)
        seconds = {"decode": decoded - begun, "inference": time.perf_counter() - decoded}
        return Classification(predictions, seconds)

    def _fitted(self, model: Predictor, picture: Picture, index: int) -> pixels.Pixels:
        try:
            if isinstance(picture, bytes):
                return pixels.decode(picture, model.card.input, max_pixels=self.max_pixels)
            return pixels.from_array(picture, model.card.input)
        except ImageError as error:
            error.picture = index
            raise
