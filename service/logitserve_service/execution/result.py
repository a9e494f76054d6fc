"""What one request gets back from a model."""

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
    """Of the whole batch that the images were part of."""
    rendered: list[dict[str, Any]] | None
    """The predictions as `rendering.render` returns them; None where no options were given."""
    timing: Timing
    rows: slice | None = None
    """Where the images stand in the batch; None where it holds no others."""
    ids: list[str] | None = None
    """Of the predictions; None where they are given none."""

    def output(self, name: str) -> npt.NDArray[Any]:
        """The logits, probabilities or argmax of the images of the request."""
        values: npt.NDArray[Any] = getattr(self.batch, name)
        return values if self.rows is None else values[self.rows]

    @property
    def predictions(self) -> Predictions:
        """One row an image of the request."""
        return self.batch if self.rows is None else self.batch[self.rows]
