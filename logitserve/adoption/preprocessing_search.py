"""Find a network's preprocessing from pictures with known labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.adoption.graph_io import PictureInput
from logitserve.adoption.network import Rows
from logitserve.adoption.options import PRESETS, Color, Normalization
from logitserve.errors import AdoptionError
from logitserve.inference.card import Fit

DOUBTFUL: Final = 0.5
"""Minimum certainty of the normalization; below it nothing is chosen."""
LEAST: Final = 1e-6
"""Lower limit of a label's probability, so that one picture does not decide the result."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the owner's pictures, with its expected label."""

    file: Path
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one candidate preprocessing on the samples."""

    name: str
    fit: Fit
    normalization: Normalization
    right: int
    """Number of samples whose most probable label is the expected one."""
    evidence: float
    """Sum of the log-likelihoods of the expected labels, in nats."""


def best(trials: Sequence[Trial], samples: int) -> tuple[Trial, str]:
    """Return the preprocessing with the highest likelihood, and a sentence about it.

    Raises:
        AdoptionError: fewer than half of the samples are right, or the choice is uncertain.
    """
    ordered = sorted(trials, key=lambda trial: -trial.evidence)
    first = ordered[0]
    weights = {trial.name: np.exp(trial.evidence - first.evidence) for trial in ordered}
    same = [one.name for one in ordered if one.normalization == first.normalization]
    certainty = sum(weights[name] for name in same) / sum(weights.values())
    told = f"{first.name} fits best: {first.right} of {samples} samples right"
    if 2 * first.right < samples:
        raise AdoptionError(
            f"no preprocessing predicts half of the samples right ({told}): check the order of "
            "the labels, or give --preset or --scale, --mean and --std"
        )
    others = [trial for trial in ordered if trial.name not in same]
    if others:
        told += f", certainty {certainty:.2f} (next: {others[0].name}, {others[0].right} right)"
    if certainty < DOUBTFUL:
        raise AdoptionError(f"{told}: give more samples, or give --preset")
    return first, told


def run(
    probabilities: Callable[[npt.NDArray[np.uint8], Normalization], Rows],
    pictures: Callable[[Fit], npt.NDArray[np.uint8]],
    expected: Sequence[int],
    fits: Sequence[Fit],
    normalizations: Sequence[tuple[str, Normalization]],
) -> list[Trial]:
    """Try every combination of fits and normalizations.

    Args:
        probabilities: returns those of the original graph for fitted pictures, `[n, labels]`.
        pictures: returns the samples, resized with a fit.
        expected: index of each sample's label.
        fits: fits to try.
        normalizations: normalizations to try, with names.
    """
    rows = np.arange(len(expected))
    trials = []
    for fit in fits:
        images = pictures(fit)
        for name, normalization in normalizations:
            found = probabilities(images, normalization)
            right = int((found.argmax(axis=1) == np.asarray(expected)).sum())
            likelihoods = np.maximum(np.nan_to_num(found[rows, list(expected)]), LEAST)
            evidence = float(np.log(likelihoods).sum())
            trials.append(Trial(f"{name}, fit {fit}", fit, normalization, right, evidence))
    return trials


def normalizations(
    source: PictureInput, given: Normalization | None, color: Color | None
) -> Iterator[tuple[str, Normalization]]:
    """Yield the candidates with their names; only the given one, if there is one."""
    if given is not None:
        yield "the given --preset or --scale, --mean and --std", given
        return
    if not source.takes_floats:
        presets = {"raw": PRESETS["raw"]}
    else:
        fitting = (1, source.channels)
        presets = {name: one for name, one in PRESETS.items() if len(one.mean) in fitting}
    colors = (Color.RGB, Color.BGR) if source.channels == 3 else (Color.RGB,)
    for (name, preset), tried in product(presets.items(), colors if color is None else (color,)):
        yield f"{name} {tried}", replace(preset, color=tried)
