"""The result of one request to a model."""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from logitserve.inference.card import ModelCard
from logitserve.inference.predictor import Predictions
from logitserve_service.telemetry.timing import Timing


@dataclass(slots=True)
class Result:
    """The predictions for the images of one request, in their order."""

    card: ModelCard
    batch: Predictions
    """The predictions of the whole batch."""
    rendered: list[dict[str, Any]] | None
    """The predictions rendered by `rendering.render`; None if no options were given."""
    timing: Timing
    rows: slice | None = None
    """Rows of the request in the batch; None if the batch has no other images."""
    ids: list[str] | None = None
    """Ids of the predictions; None if ids are off."""

    def output(self, name: str) -> npt.NDArray[Any]:
        """Return the logits, probabilities or argmax for the images of the request."""
        values: npt.NDArray[Any] = getattr(self.batch, name)
        return values if self.rows is None else values[self.rows]

    @property
    def predictions(self) -> Predictions:
        """Predictions with one row per image of the request."""
        return self.batch if self.rows is None else self.batch[self.rows]
