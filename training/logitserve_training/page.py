"""Render a model's report as one self-contained HTML page without scripts."""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard, Scores
from logitserve.inference.card_text import facts
from logitserve.inference.intervals import wilson
from logitserve_training import figures
from logitserve_training.baseline import MAJORITY, Comparison
from logitserve_training.datasets.dataset import Images
from logitserve_training.evaluate import SHARES, Evaluation
from logitserve_training.figures import svg
from logitserve_training.measure import Coverage, Measured
from logitserve_training.robustness import Row, means
from logitserve_training.statistics.calibration import FEW

_TEMPLATE: Final = "report.html.j2"
_TILES: Final = ("accuracy", "macro_f1", "mean_average_precision", "f1")
_NAMES: Final = {
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier score",
    "f1": "F1",
    "macro_f1": "macro F1",
}
_IN_WORDS: Final = {
    "macro_f1": "macro F1: the mean of the labels' F1",
    "mean_average_precision": "mean average precision of the labels",
    "ece": "expected calibration error",
}


def render(
    card: ModelCard,
    evaluation: Evaluation,
    measured: Measured,
    *,
    learning: Figure | None,
    confusion: Figure | None,
    comparison: Comparison | None = None,
    robustness: Sequence[Row] = (),
) -> str:
    """Render the page of a calibrated model from the measurements on its test part.

    Sections without measurements are omitted.
    """
    environment = Environment(
        loader=PackageLoader("logitserve_training"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(_TEMPLATE).render(
        {name: made and svg(made) for name, made in _drawn(card, measured).items()},
        learning=learning and svg(learning),
        card=card,
        measured=measured,
        pictures=len(evaluation.classes),
        folds=_folds(card),
        tiles=list(_tiles(evaluation, measured)),
        metrics=list(_metrics(evaluation)),
        mistakes=list(_mistakes(card, evaluation, confusion)),
        comparison=comparison,
        beside_majority=[] if comparison is None else list(_beside_majority(card, comparison)),
        by_label=[] if comparison or card.thresholds is None else list(_by_label(card, evaluation)),
        method=_method(card),
        calibration_rows=list(_calibration_rows(card, evaluation, measured)),
        few=FEW,
        coverage_by_label=_coverage_by_label(measured.coverage_by_label),
        unknown=_unknown(evaluation),
        disturbed=_disturbed(robustness),
        disturbed_means=list(means(list(robustness))),
        facts=list(facts(card)),
    )


def _method(card: ModelCard) -> str:
    """Return the calibration method as text."""
    return "temperature" if card.head is Head.SOFTMAX else "scale and bias of each logit"


def _drawn(card: ModelCard, measured: Measured) -> dict[str, Figure | None]:
    """Return the template's figures by name; None if not measured."""
    drawn: dict[str, Figure | None] = {
        "reliability": figures.reliability_diagram(
            measured.raw,
            measured.calibrated,
            of=card.labels[1] if card.head is not Head.SIGMOID and len(card.labels) == 2 else "",
        ),
        "latency_plot": figures.latency_plot(measured.latency),
        "coverage_plot": None,
        "novelties": None,
    }
    if measured.coverage:
        drawn["coverage_plot"] = figures.coverage_plot(measured.coverage)
    for name, limit in (("Energy", card.energy), ("Novelty", card.novelty)):
        if limit is not None:
            threshold = limit.threshold
            drawn["novelties"] = figures.novelty_histogram(measured.novelties, name, threshold)
    return drawn


def _tiles(evaluation: Evaluation, measured: Measured) -> Iterator[tuple[str, str, str, str]]:
    """Yield value, name, number of pictures, and 95 % interval."""
    of_model = {name: row for name, *row in _metrics(evaluation)}
    count = len(evaluation.classes)
    for name in (*_TILES, "ece"):
        if name in evaluation.metrics:
            value, interval = of_model[_named(name)]
            right = int(evaluation.is_right.sum())
            counted = _counted(right, count) if name == "accuracy" else f"on {count:,} pictures"
            yield value, _IN_WORDS.get(name, _named(name)), counted, f"95 %: {interval}"
    for row in measured.coverage:
        if row.asked == 0.99:
            name = "coverage of 99\N{NO-BREAK SPACE}% prediction sets"
            chance = f"by chance: {row.low:.2%} to {row.high:.2%}"
            yield f"{row.covered:.2%}", name, _counted(round(row.covered * count), count), chance
    median = f"{measured.latency.median[0] * 1e6:,.0f} µs"
    yield (
        median,
        "latency of one picture",
        f"on one thread of {measured.latency.processor}",
        "",
    )


def _counted(some: int, count: int) -> str:
    return f"{some:,} of {count:,}"


def _unknown(evaluation: Evaluation) -> str:
    """Return how many test pictures are unknown, as text."""
    known = evaluation.predictions.known
    if known is None:
        return ""
    some, count = int((~known).sum()), len(known)
    low, high = wilson(some, count)
    return f"{_counted(some, count)} (95 %: {low:.2%} to {high:.2%})"


def _metrics(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    for name, value in evaluation.metrics.items():
        low, high = evaluation.intervals[name]
        yield _named(name), _stated(name, value), f"{_stated(name, low)} to {_stated(name, high)}"


def _by_label(card: ModelCard, evaluation: Evaluation) -> Iterator[tuple[str, ...]]:
    """Yield per label of a sigmoid model: label, support, average precision, F1, threshold."""
    thresholds = np.broadcast_to(heads.thresholds(card), len(card.labels)).tolist()
    for label, found, threshold in zip(card.labels, evaluation.by_label, thresholds, strict=False):
        figures = ("–" if one is None else str(one) for one in (found.average_precision, found.f1))
        yield label, f"{found.support:,}", *figures, f"{threshold:.3f}"


def _disturbed(rows: Sequence[Row]) -> dict[str, list[tuple[Row, Markup]]]:
    """Return heading → rows with their pictures."""
    table: dict[str, list[tuple[Row, Markup]]] = {}
    for row in rows:
        if row.group == "clean":
            heading = "undisturbed"
        elif row.group == "training":
            heading = "training families"
        elif row.like is not None:
            heading = "similar to a training family"
        else:
            heading = "not similar to a training family"
        table.setdefault(heading, []).append((row, _strip(row.shown)))
    return table


def _strip(images: Images) -> Markup:
    """Return pictures side by side as an SVG element."""
    strip = np.hstack(list(images))
    height, width = strip.shape[:2]
    picture = Image.fromarray(strip[..., 0] if strip.shape[2] == 1 else strip)
    buffer = io.BytesIO()
    picture.quantize(16).save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup(
        '<svg class="strip" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img">'
        '<image href="data:image/png;base64,{2}" width="{0}" height="{1}"/></svg>'
    ).format(width, height, data)


def _coverage_by_label(rows: Sequence[Coverage]) -> dict[str, dict[float, Coverage]]:
    """Return label → requested coverage → measured coverage."""
    table: dict[str, dict[float, Coverage]] = {}
    for row in rows:
        table.setdefault(row.label or "", {})[row.asked] = row
    return table


def _mistakes(
    card: ModelCard, evaluation: Evaluation, confusion: Figure | None
) -> Iterator[tuple[Markup, str]]:
    if confusion is not None:
        yield (
            svg(confusion),
            "Confusion matrix of the test part; rows: true labels, columns: predicted labels.",
        )
    if card.head is Head.SIGMOID:
        curves = figures.precision_recall_curves(card.labels, evaluation)
        yield svg(curves), "Precision-recall curve of each label, with a point at its threshold."


def _beside_majority(
    card: ModelCard, comparison: Comparison
) -> Iterator[tuple[str, str, str, bool]]:
    """Yield a metric's name, the network's and majority's values, and whether it is lost."""
    for key, yardstick in comparison.metrics.items():
        name = key.removeprefix(MAJORITY)
        figures_of_both = (_stated(name, card.metrics[name]), _stated(name, yardstick))
        yield _named(name), *figures_of_both, name in comparison.lost


def _calibration_rows(
    card: ModelCard, evaluation: Evaluation, measured: Measured
) -> Iterator[tuple[str, Scores]]:
    assert card.calibration is not None  # noqa: S101 - ensured by the caller
    metrics = evaluation.metrics
    if _folds(card) is None:
        yield "validation, uncalibrated", card.calibration.before
        yield "validation, calibrated", card.calibration.after
    yield "test, uncalibrated", Scores.model_validate(measured.uncalibrated_scores)
    yield "test, calibrated", Scores(**{name: metrics[name] for name in Scores.model_fields})


def _folds(card: ModelCard) -> int | None:
    return None if card.dataset is None else card.dataset.folds


def _named(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def _stated(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric in SHARES else f"{value:.4f}"
