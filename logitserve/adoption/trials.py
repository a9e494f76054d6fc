"""Pictures with known labels tell which preprocessing a network was trained with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.adoption.foreign import PictureInput
from logitserve.adoption.network import Rows
from logitserve.adoption.terms import PRESETS, Color, Normalization
from logitserve.errors import AdoptionError
from logitserve.inference.card import Fit

DOUBTFUL: Final = 0.5
"""Below this certainty of what the bytes become, nothing is chosen."""
LEAST: Final = 1e-6
"""A label's probability counts as it where it is below, so that one picture does not decide all."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the owner's pictures."""

    file: Path
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What one preprocessing makes of the samples."""

    name: str
    fit: Fit
    normalization: Normalization
    right: int
    """Samples whose most probable label is the expected one."""
    evidence: float
    """Log-likelihood of the expected labels, nats, summed."""


def best(trials: Sequence[Trial], samples: int) -> tuple[Trial, str]:
    """The preprocessing that makes the expected labels most likely, and a sentence about it.

    Raises:
        AdoptionError: it makes less than half of the samples right, or others fit as well.
    """
    ordered = sorted(trials, key=lambda trial: -trial.evidence)
    first = ordered[0]
    weights = {trial.name: np.exp(trial.evidence - first.evidence) for trial in ordered}
    same = [one.name for one in ordered if one.normalization == first.normalization]
    certainty = sum(weights[name] for name in same) / sum(weights.values())
    told = f"{first.name} fits best: {first.right} of {samples} samples right"
    if 2 * first.right < samples:
        raise AdoptionError(
            f"no preprocessing makes half of the samples right ({told}): check the order of the "
            "labels, or say it with --preset or --scale, --mean and --std"
        )
    others = [trial for trial in ordered if trial.name not in same]
    if others:
        told += f", certainty {certainty:.2f} (next: {others[0].name}, {others[0].right} right)"
    if certainty < DOUBTFUL:
        raise AdoptionError(f"{told}: give more samples, or say it with --preset")
    return first, told


def run(
    probabilities: Callable[[npt.NDArray[np.uint8], Normalization], Rows],
    pictures: Callable[[Fit], npt.NDArray[np.uint8]],
    expected: Sequence[int],
    fits: Sequence[Fit],
    normalizations: Sequence[tuple[str, Normalization]],
) -> list[Trial]:
    """Try every combination of fits and of normalizations, each with its name.

    Args:
        probabilities: of pictures that were fitted, by the original graph, `[n, labels]`.
        pictures: the samples, fitted.
        expected: the index of each one's label.
        fits: to try.
        normalizations: to try.
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
    """Those that may be meant, by name; the one that was given, where it was."""
    if given is not None:
        yield "what --preset or --scale, --mean and --std say", given
        return
    if not source.takes_floats:
        presets = {"raw": PRESETS["raw"]}
    else:
        fitting = (1, source.channels)
        presets = {name: one for name, one in PRESETS.items() if len(one.mean) in fitting}
    colors = (Color.RGB, Color.BGR) if source.channels == 3 else (Color.RGB,)
    for (name, preset), tried in product(presets.items(), colors if color is None else (color,)):
        yield f"{name} {tried}", replace(preset, color=tried)
