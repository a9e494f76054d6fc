"""Advice after a training: test the model, inspect its worst predictions, correct labels."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve_training.datasets.dataset import Dataset
from logitserve_training.datasets.listing import named
from logitserve_training.evaluate import Evaluation, outcomes
from logitserve_training.finish import HeldOut
from logitserve_training.label_scores import Labels, Outcomes

_WORST: Final = 3
_DOUBTED: Final = 0.1
"""Share of the pictures above which the model is suspected, not the labels."""
_SURE: Final = 0.95
"""|Probability − label (0 or 1)| above which the label is doubtful."""


def lines(
    card: ModelCard, evaluation: Evaluation, dataset: Dataset, held_out: HeldOut | None
) -> Iterator[str]:
    """Yield advice, one line each, on the evaluation of a dataset of files.

    `held_out` is the cross-validated prediction of the training pictures, if there is one.
    """
    if dataset.files is None:
        return
    tested = dataset.files["test"]
    picture = shlex.quote(str(tested[0]))
    yield f"try it: curl -F file=@{picture} http://localhost:8000/models/{card.name}/predict"
    probabilities = evaluation.predictions.probabilities
    truth = outcomes(evaluation.classes, len(card.labels))
    answers = evaluation.answers
    if answers is None:
        answers = outcomes(evaluation.predictions.argmax, len(card.labels))
    scores = Labels(probabilities, answers, truth).scores()
    precisions = {i: one.average_precision for i, one in enumerate(scores) if one.average_precision}
    weakest = min(precisions, key=lambda i: precisions[i].value)
    miss = np.abs(truth[:, weakest] - probabilities[:, weakest])
    worst = [str(tested[row]) for row in np.argsort(-miss, kind="stable")[:_WORST]]
    yield (
        f"weakest: {card.labels[weakest]}, average precision "
        f"{precisions[weakest].value:.3f}; worst of the test part: {named(worst)}"
    )
    if dataset.near_copies:
        pairs = [f"{one} like {other}" for one, other in dataset.near_copies]
        yield f"near-duplicates in the training part, {len(pairs)}: {named(pairs)}"
    doubted, asked = list(_doubted(card, probabilities, truth, tested)), len(tested)
    if held_out is not None and not dataset.folds:  # with folds, all pictures are tested on
        said = heads.probabilities(card.head, heads.calibrated(held_out.logits, card))
        files = [dataset.learned_files[row] for row in held_out.rows]
        doubted += _doubted(card, said, outcomes(held_out.truth, len(card.labels)), files)
        asked += len(files)
    if 0 < len(doubted) <= _DOUBTED * asked:
        doubted.sort(key=lambda one: -one[0])
        yield f"labels that may be wrong, {len(doubted)}: {named([text for _, text in doubted])}"


def _doubted(
    card: ModelCard, said: npt.NDArray[Any], truth: Outcomes, files: Sequence[Path]
) -> Iterator[tuple[float, str]]:
    """Yield confidently contradicted labels: the difference, and a text."""
    miss = np.abs(truth - said)
    for row in np.flatnonzero(miss.max(axis=1) > _SURE).tolist():
        label = int(miss[row].argmax())
        if card.head is not Head.SIGMOID:
            given, found = int(truth[row].argmax()), int(said[row].argmax())
            text = f"{card.labels[given]}, predicted {card.labels[found]} {said[row, found]:.3f}"
        else:
            text = f"{card.labels[label]} {truth[row, label]}, predicted {said[row, label]:.3f}"
        yield float(miss[row, label]), f"{files[row]} ({text})"
