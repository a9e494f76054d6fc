"""Why this answer: the parts of an image that speak for a label, and those against it."""

import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from logitserve.inference import heads, runtime
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.errors import ExplanationError
from logitserve.inference.feature_maps import FeatureMaps
from logitserve.inference.model_file import Reading
from logitserve.inference.naming import absent
from logitserve.inference.occlusion import Floats, Masks, Occlusion, Pixels, mean_drops, patches
from logitserve.inference.predictor import Predictions, Predictor

BUDGET_MS, MAX_BUDGET_MS = 200, 10_000
CHECKS: Final = 2
"""Passes that tell whether a map is right."""
BATCH_PIXELS: Final = 8192
"""Of the images in a batch, at most: 10 of 28×28 pixels, or one photograph."""

Result = TypeVar("Result")


class Method(StrEnum):
    """How an answer is explained."""

    AUTO = "auto"
    CAM = "cam"
    OCCLUSION = "occlusion"


class Drop(BaseModel):
    """By how much the log-odds of the label fall when a fifth of the cells is covered."""

    top: float = Field(description="the cells with the highest values of the map")
    random: float = Field(description="as many cells that were drawn; a poor map does no better")


class Explanation(BaseModel):
    """Which parts of one image speak for a label."""

    label: str
    against: str | None = Field(description="the label it is compared with; null: all others")
    method: Method
    map: list[list[float | None]] = Field(
        description="rows of cells that divide the image, as the model gets it, evenly; null where "
        "the budget did not last for the cell"
    )
    unit: str = Field(description="of the map, and the meaning of its sign")
    bias: float | None = Field(description="cam only: with the map's mean it is the logit")
    fill: str = Field(description="what covers cells: `paper` (0), or `blur` (the image, blurred)")
    passes: int = Field(description="of the network, that the map is made from")
    of: int = Field(description="passes that a whole map takes")
    complete: bool
    drop: Drop | None = Field(description="whether the map is right; null: the budget was spent")


UNITS: Final = {
    Method.CAM: "logit at the cell, less the bias; above 0 it speaks for the label",
    Method.OCCLUSION: "fall of the log-odds when the cell is covered; above 0 it speaks for the "
    "label",
}


class _Evidence:
    """What logits say for a label, or for it against another."""

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
        """The logit, or the difference of two: of `[…, k]`, and linear."""
        exact: Floats = logits.astype(np.float64)
        if self._card.head is Head.BINARY:
            return exact[..., 0] if self._label else -exact[..., 0]
        own = exact[..., self._label]
        return own if self._against is None else own - exact[..., self._against]

    def log_odds(self, logits: npt.NDArray[np.float32]) -> Floats:
        """After calibration: of `[n, k]`, or `[n, k + 1]` with the novelty."""
        calibrated = heads.calibrated(logits[:, : self._card.logit_count], self._card)
        odds = self.of(calibrated)
        if self._card.head is Head.SOFTMAX and self._against is None:
            others = np.delete(calibrated, self._label, axis=1)
            odds = odds - heads.softmax_with_log_sum(others)[1][:, 0]
        return odds


class _Budget:
    """Time, in passes of one image as long as the last ones were."""

    def __init__(self, milliseconds: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._end = clock() + milliseconds / 1000
        self._seconds = 0.0

    def timed(self, run: Callable[[], Result], passes: int = 1) -> Result:
        """The result of so many passes in one run."""
        begun = self._clock()
        result = run()
        self._seconds = (self._clock() - begun) / passes
        return result

    def left(self, most: int) -> int:
        """How many passes would be over in time: `most` or fewer."""
        seconds = self._end - self._clock()
        return int(min(seconds // self._seconds, most)) if self._seconds else most


class _Map(NamedTuple):
    method: Method
    values: Floats
    """`[rows, columns]`; NaN where the budget did not last for the cell."""
    bias: float | None
    passes: int
    of: int


class Explainer:
    """A session of one thread for explanations, beside the one that answers."""

    def __init__(self, reading: Reading, card: ModelCard) -> None:
        """Open what was read of a model file that has been verified."""
        self._card = card
        self._maps = FeatureMaps.of(reading.path.read_bytes(), card.batch)
        session = runtime.open_reading(reading) if self._maps is None else self._maps.session
        self.predictor = Predictor(card, session)

    def explain(
        self,
        image: Pixels,
        *,
        method: Method = Method.AUTO,
        label: str | None = None,
        against: str | None = None,
        budget_ms: int = BUDGET_MS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Explanation:
        """Explain what the network makes of an image.

        Args:
            image: uint8, `[height, width, channels]` of the card.
            method: `auto`: occlusion where it fits the budget, else class activation maps where the
                network has them, else as much of occlusion as fits.
            label: what is explained; None: the most probable label.
            against: why it is not this label; None: any other.
            budget_ms: when it is over, one pass more may be under way.
            clock: in seconds.

        Raises:
            ExplanationError: there is no such label, or no class activation map.
            NonFiniteLogitsError: a logit is NaN or infinite.
        """
        budget = _Budget(budget_ms, clock)
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
        """Those of as many masks as the budget lasts for."""
        drops: list[float] = []
        # Interpreted code between the runs is what predictions wait for; small images share a run.
        most = self._card.batch or max(1, BATCH_PIXELS // covers.pixels)
        while len(drops) < len(masks):
            count = min(most, budget.left(most + CHECKS) - CHECKS)
            if count < 1:
                break
            part = masks[len(drops) :][:count]
            drops += budget.timed(partial(covers.drops, part), len(part)).tolist()
        return np.array(drops)
