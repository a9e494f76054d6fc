"""The report of a model: metrics as JSON, figures, and a page."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from logitserve.inference.card import ModelCard
from logitserve.inference.repository import REPORT_PAGE
from logitserve_training import figures, page
from logitserve_training.baseline import Comparison
from logitserve_training.datasets.dataset import Images
from logitserve_training.epochs import Epoch
from logitserve_training.evaluate import Evaluation
from logitserve_training.measure import Measured
from logitserve_training.plots import empty
from logitserve_training.robustness import Row

METRICS_FILE: Final = "metrics.json"
LABELS_FILE: Final = "labels.csv"
WORST_MISTAKES: Final = "worst_mistakes.png"
"""Contains pictures of the data set, whose license may differ from the project's."""

_SHADE: Final = "#2166ac"
_MISTAKES: Final = (4, 8)
"""Rows and columns of the figure."""


def write(
    folder: Path,
    card: ModelCard,
    epochs: Sequence[Epoch],
    evaluation: Evaluation,
    *,
    images: Images,
    measured: Measured,
    comparison: Comparison | None = None,
    robustness: Sequence[Row] = (),
) -> None:
    """Write the report into a new folder; `images` are the pictures of the test part.

    Parts without measurements are omitted.
    """
    folder.mkdir()
    document = _figures(card, epochs, evaluation, measured)
    if robustness:
        document["robustness"] = [row.to_json() for row in robustness]
    (folder / METRICS_FILE).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    if comparison is not None:
        (folder / LABELS_FILE).write_text(comparison.to_csv())
    confusion = evaluation.confusion
    (folder / REPORT_PAGE).write_text(
        page.render(
            card,
            evaluation,
            measured,
            learning=figures.learning_curves(card.name, epochs) if epochs else None,
            confusion=None if confusion is None else confusion_matrix(card, confusion),
            comparison=comparison,
            robustness=robustness,
        )
    )
    if confusion is not None:
        # Without date and library version, equal figures give equal bytes.
        worst_mistakes(card, evaluation, images).savefig(
            folder / WORST_MISTAKES, dpi=110, metadata={"Software": None}
        )


def confusion_matrix(card: ModelCard, counts: npt.NDArray[np.int64]) -> Figure:
    """Plot counts of true against predicted labels; the shade is the share of the true label."""
    size = len(card.labels)
    accuracy = np.trace(counts) / counts.sum()
    side = 1.2 + max(0.4 * size, 2.4)
    figure = empty(
        f"{card.name}: {accuracy:.2%} accuracy on {counts.sum():,} test pictures", (side, side)
    )
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The square root makes a few mistakes among a thousand visible.
    shades = np.zeros((*shares.shape, 4))
    shades[...] = to_rgba(_SHADE)
    shades[..., 3] = np.sqrt(shares)  # transparent at 0, for any background
    axes.pcolorfast((-0.5, size - 0.5), (-0.5, size - 0.5), shades)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal")
    for row, column in np.ndindex(size, size):
        if counts[row, column]:
            color = "white" if shares[row, column] > 0.3 else "black"
            axes.text(
                column, row, f"{counts[row, column]}", ha="center", va="center", color=color, size=8
            )
    axes.set_xticks(range(size), card.labels)
    axes.set_yticks(range(size), card.labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def worst_mistakes(card: ModelCard, evaluation: Evaluation, images: Images) -> Figure:
    """Plot the misclassified pictures, lowest probability of the true label first."""
    predictions, classes = evaluation.predictions, evaluation.classes
    wrong = np.flatnonzero(predictions.argmax != classes)
    of_truth = predictions.probabilities[wrong, classes[wrong]]
    order = wrong[np.argsort(of_truth, kind="stable")]
    rows, columns = _MISTAKES
    figure = empty(
        f"{card.name}: worst of {len(wrong):,} errors on {len(classes):,} test pictures",
        (1.25 * columns, 1.6 * rows),
    )
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells:
        axes.set_axis_off()
    for axes, index in zip(cells, order, strict=False):
        axes.imshow(images[index].squeeze(), cmap="gray", vmin=0, vmax=255)
        said = predictions.argmax[index]
        axes.set_title(
            f"{card.labels[classes[index]]}, not {card.labels[said]}\n"
            f"(predicted {predictions.probabilities[index, said]:.1%})",
            size=8,
        )
    return figure


def _figures(
    card: ModelCard, epochs: Sequence[Epoch], evaluation: Evaluation, measured: Measured
) -> dict[str, Any]:
    """Return the content of `metrics.json`."""
    document = {
        "model": card.name,
        "version": card.version,
        "labels": card.labels,
        "test": evaluation.metrics,
        "test_intervals": evaluation.intervals,
        "epochs": [asdict(epoch) for epoch in epochs],
        **measured.to_json(),
    }
    if card.calibration is not None:
        document["calibration"] = card.calibration.model_dump()
    if evaluation.confusion is not None:
        document["confusion"] = evaluation.confusion.tolist()
    return document
