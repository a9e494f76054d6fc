"""Scores per label."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from logitserve.inference import intervals
from logitserve.inference.intervals import Groups
from logitserve_training.statistics.calibration import Floats
from logitserve_training.statistics.intervals import Estimate

Outcomes = npt.NDArray[np.int64]
"""`[n, labels]`, 1 if the label holds, else 0."""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of one label; None if no picture has it."""

    support: int
    """Number of pictures with the label."""
    share: float
    """Share of pictures with the label: the average precision of a random order."""
    average_precision: Estimate | None
    """Average precision; pictures of equal probability are one step, in any order."""
    f1: Estimate | None
    """F1 at the label's threshold."""


class Labels:
    """Predictions and truth per label, for any weights of the pictures."""

    def __init__(self, probabilities: Floats, answers: Outcomes, outcomes: Outcomes) -> None:
        """Sort each label's pictures once; all arguments are `[n, labels]`."""
        self._answers, self._outcomes = answers, outcomes
        self._order = np.argsort(-probabilities, axis=0, kind="stable")
        ranked = np.take_along_axis(probabilities, self._order, axis=0)
        self._truth = np.take_along_axis(outcomes, self._order, axis=0)
        last = np.ones((1, ranked.shape[1]), bool)
        is_end = np.concatenate([ranked[1:] != ranked[:-1], last])
        self._ends = [np.flatnonzero(column) for column in is_end.T]

    def f1(self, weights: Floats) -> Floats:
        """Return the F1 of each label, `[labels]`; NaN without pictures."""
        having = weights @ self._outcomes
        right = weights @ (self._answers * self._outcomes)
        return np.where(
            having > 0, 2 * right / np.maximum(weights @ self._answers + having, 1), np.nan
        )

    def average_precision(self, weights: Floats) -> Floats:
        """Return the average precision of each label, `[labels]`; NaN without pictures."""
        weighted = weights[self._order]
        answered, right = weighted.cumsum(axis=0), (weighted * self._truth).cumsum(axis=0)
        found = np.full(len(self._ends), np.nan)
        for label, ends in enumerate(self._ends):
            steps = right[ends, label]
            if steps[-1] > 0:
                precision = steps / np.maximum(answered[ends, label], 1)
                found[label] = np.diff(steps, prepend=0.0) @ precision / steps[-1]
        return found

    def means(self, weights: Floats) -> dict[str, float]:
        """Return the macro averages over the labels that have pictures."""
        return {
            "macro_f1": float(np.nanmean(self.f1(weights))),
            "mean_average_precision": float(np.nanmean(self.average_precision(weights))),
        }

    def scores(self, groups: Groups | None = None) -> tuple[LabelScores, ...]:
        """Return the scores of each label, unweighted; intervals by bootstrap over groups."""
        supports = self._outcomes.sum(axis=0)

        def figures(weights: Floats) -> dict[tuple[str, int], float]:
            columns = {"ap": self.average_precision(weights), "f1": self.f1(weights)}
            return {
                (name, label): float(column[label])
                for name, column in columns.items()
                for label in np.flatnonzero(supports).tolist()
            }

        count = len(self._outcomes)
        found = {
            (name, label): Estimate(value, *intervals.beyond(interval, int(supports[label])))
            for ((name, label), value), interval in zip(
                figures(np.ones(count)).items(),
                intervals.bootstrap(figures, count, groups).values(),
                strict=True,
            )
        }
        return tuple(
            LabelScores(support, support / count, found.get(("ap", at)), found.get(("f1", at)))
            for at, support in enumerate(supports.tolist())
        )
