"""Explain a prediction: the parts of an image that support a label, and those that oppose it."""

import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from logitserve.inference import heads, preprocessing, runtime
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.errors import ExplanationError, NonFiniteLogitsError
from logitserve.inference.feature_maps import FeatureMaps
from logitserve.inference.images import DEFAULT_MAX_PIXELS, Samples
from logitserve.inference.model_file import Reading
from logitserve.inference.naming import absent
from logitserve.inference.occlusion import Floats, Masks, Occlusion, Pixels, mean_drops, patches
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.rendering import render

BUDGET_MS, MAX_BUDGET_MS = 200, 10_000
CHECKS: Final = 2
"""Passes for the check of a map."""

Result = TypeVar("Result")


class Method(StrEnum):
    """Method of the explanation."""

    AUTO = "auto"
    CAM = "cam"
    OCCLUSION = "occlusion"


class Drop(BaseModel):
    """Decrease of the label's log-odds when a fifth of the cells is covered."""

    top: float = Field(description="covering the cells with the highest values of the map")
    random: float = Field(description="covering as many random cells; a good map exceeds it")


class Explanation(BaseModel):
    """Contribution of the parts of one image to a label."""

    label: str
    against: str | None = Field(description="the label compared with; null: all others")
    method: Method
    map: list[list[float | None]] = Field(
        description="rows of cells that divide the model's input evenly; null if the budget did "
        "not suffice for the cell"
    )
    unit: str = Field(description="unit of the map, and the meaning of its sign")
    bias: float | None = Field(description="cam only: the map's mean plus the bias is the logit")
    fill: str = Field(description="content of covered cells: `paper` (0), or `blur` (blurred)")
    passes: int = Field(description="forward passes used for the map")
    of: int = Field(description="forward passes needed for a complete map")
    complete: bool
    drop: Drop | None = Field(description="check of the map; null: the budget was used up")


UNITS: Final = {
    Method.CAM: "logit at the cell, less the bias; above 0 it supports the label",
    Method.OCCLUSION: "decrease of the log-odds when the cell is covered; above 0 it supports the "
    "label",
}


class _Evidence:
    """The score that is explained: a label's logit, or its difference from another's."""

    def __init__(self, card: ModelCard, label: str, against: str | None) -> None:
        for name in (label, against):
            if name is not None and name not in card.labels:
                raise ExplanationError(absent("label", name, card.labels))
        if label == against:
            raise ExplanationError(f"label {label!r} cannot be explained against itself")
        self._card = card
        self._label = card.labels.index(label)
        self._against = None if against is None else card.labels.index(against)

    def of(self, logits: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return the logit, or the difference of two: linear in the logits, `[…, k]`."""
        exact: Floats = logits.astype(np.float64)
        if self._card.head is Head.BINARY:
            return exact[..., 0] if self._label else -exact[..., 0]
        own = exact[..., self._label]
        return own if self._against is None else own - exact[..., self._against]

    def log_odds(self, logits: npt.NDArray[np.float32]) -> Floats:
        """Return log-odds after calibration, for `[n, k]`, or `[n, k + 1]` with the novelty."""
        calibrated = heads.calibrated(logits[:, : self._card.logit_count], self._card)
        odds = self.of(calibrated)
        if self._card.head is Head.SOFTMAX and self._against is None:
            others = np.delete(calibrated, self._label, axis=1)
            odds = odds - heads.softmax_with_log_sum(others)[1][:, 0]
        return odds


class _Budget:
    """Time budget, in forward passes of one image, estimated from the last ones."""

    def __init__(
        self, milliseconds: int, clock: Callable[[], float], rest: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._rest = rest
        self._end = clock() + milliseconds / 1000
        self._seconds = 0.0

    def timed(self, run: Callable[[], Result], passes: int = 1) -> Result:
        """Run a batch of passes, rest, and measure the time of both."""
        begun = self._clock()
        result = run()
        self._rest()
        self._seconds = (self._clock() - begun) / passes
        return result

    def left(self, most: int) -> int:
        """Return how many passes fit into the remaining time, at most `most`."""
        seconds = self._end - self._clock()
        return int(min(seconds // self._seconds, most)) if self._seconds else most


class _Map(NamedTuple):
    method: Method
    values: Floats
    """`[rows, columns]`; NaN if the budget did not suffice for the cell."""
    bias: float | None
    passes: int
    of: int


class Explainer:
    """Computes explanations in a single-threaded session of its own."""

    def __init__(self, reading: Reading, card: ModelCard) -> None:
        """Open a verified model file."""
        self._card = card
        self._maps = FeatureMaps.of(reading.path.read_bytes(), card.batch)
        session = runtime.open_reading(reading) if self._maps is None else self._maps.session
        self.predictor = Predictor(card, session)

    def predict(
        self, image: bytes | Samples, *, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> tuple[dict[str, Any], Pixels]:
        """Predict one image, to be explained.

        Args:
            image: an encoded image, or its samples.
            max_pixels: limit on width × height.

        Returns:
            the rendered prediction, and the image: uint8, `[height, width, channels]` of the card.

        Raises:
            ImageError: the image cannot be used.
            NonFiniteLogitsError: a logit is NaN or infinite.
        """
        spec = self._card.input
        if isinstance(image, bytes):
            needed = preprocessing.needed_side(spec)
            samples = preprocessing.read(image, spec, max_pixels=max_pixels, needed=needed)
        else:
            samples = preprocessing.samples_of(image, max_pixels=max_pixels)
        prepared = preprocessing.prepare([samples], spec, [image])
        try:
            predictions = self.predictor.predict(prepared)
        except NonFiniteLogitsError as error:
            raise NonFiniteLogitsError from error  # there is no other image
        (prediction,) = render(self._card, predictions)
        return prediction, prepared.images[0]

    def explain(
        self,
        image: Pixels,
        *,
        method: Method = Method.AUTO,
        label: str | None = None,
        against: str | None = None,
        budget_ms: int = BUDGET_MS,
        clock: Callable[[], float] = time.perf_counter,
        rest: Callable[[], None] = lambda: None,
    ) -> Explanation:
        """Explain the prediction for an image.

        Args:
            image: uint8, `[height, width, channels]` of the card.
            method: `auto`: occlusion if it fits the budget, else class activation maps if the
                network has them, else as much of occlusion as fits.
            label: the label to explain; None: the most probable label.
            against: the label to compare with; None: all others.
            budget_ms: time limit; at its end, one more pass may be running.
            clock: returns seconds.
            rest: called after each run of the network.

        Raises:
            ExplanationError: the label does not exist, or the network has no class activation maps.
            NonFiniteLogitsError: a logit is NaN or infinite.
        """
        budget = _Budget(budget_ms, clock, rest)
        logits = budget.timed(partial(self.predictor.run, image[np.newaxis]))
        best = Predictions.of(logits, self._card).argmax[0]
        label = self._card.labels[best] if label is None else label
        evidence = _Evidence(self._card, label, against)

        def log_odds(images: Pixels) -> Floats:
            return evidence.log_odds(self.predictor.run(images))

        whole = float(evidence.log_odds(logits)[0])
        covers = Occlusion(image, self._card.input.fit, log_odds, whole)
        found = self._map(image, method, evidence, covers, budget)
        drop = None
        if found.passes and budget.left(1):
            top, random = covers.check(found.values)
            drop = Drop(top=top, random=random)
        rows = [
            [None if np.isnan(cell) else round(cell, 5) for cell in row]
            for row in found.values.tolist()
        ]
        return Explanation(
            label=label,
            against=against,
            method=found.method,
            map=rows,
            unit=UNITS[found.method],
            bias=found.bias,
            fill=covers.fill,
            passes=found.passes,
            of=found.of,
            complete=found.passes == found.of,
            drop=drop,
        )

    def _map(
        self, image: Pixels, method: Method, evidence: _Evidence, covers: Occlusion, budget: _Budget
    ) -> _Map:
        masks = patches(*image.shape[:2])
        needed = len(masks) + CHECKS
        is_short = method is Method.AUTO and budget.left(needed) < needed
        maps = None
        if self._maps is not None and (method is Method.CAM or is_short):
            maps = self._maps.logits(image[np.newaxis])
        if maps is not None:
            return _Map(Method.CAM, evidence.of(maps[0]), float(evidence.of(maps[1])), 1, 1)
        if method is Method.CAM:
            raise ExplanationError(
                f"model {self._card.name!r} has no class activation maps, since its logits are not "
                "a linear layer over the means of feature maps; use method 'occlusion'"
            )
        drops = self._drops(covers, masks, budget)
        values = mean_drops(drops, masks[: len(drops)])
        return _Map(Method.OCCLUSION, values, None, len(drops), len(masks))

    def _drops(self, covers: Occlusion, masks: Masks, budget: _Budget) -> Floats:
        """Return the drops of as many masks as the budget allows."""
        drops: list[float] = []
        most = self._card.batch or 1  # short runs: predictions wait for the end of one
        while len(drops) < len(masks):
            count = min(most, budget.left(most + CHECKS) - CHECKS)
            if count < 1:
                break
            part = masks[len(drops) :][:count]
            drops += budget.timed(partial(covers.drops, part), len(part)).tolist()
        return np.array(drops)
