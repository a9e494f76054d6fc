"""A model's report as one page of HTML that needs nothing else: no script, no other file."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from logitserve.inference.card import Head, ModelCard, Scores
from logitserve_training import figures
from logitserve_training.baseline import MAJORITY, Comparison, shown
from logitserve_training.evaluate import Evaluation
from logitserve_training.figures import svg
from logitserve_training.measure import Coverage, Measured
from logitserve_training.statistics.calibration import FEW

_TEMPLATE: Final = "report.html.j2"
_TILES: Final = ("accuracy", "macro_f1", "mean_average_precision", "f1")
_FRACTIONS: Final = (*_TILES, "precision", "recall", "exact_match")
_NAMES: Final = {
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier score",
    "f1": "F1",
    "macro_f1": "macro F1",
}


def render(
    card: ModelCard,
    evaluation: Evaluation,
    measured: Measured,
    *,
    learning: Figure | None,
    confusion: Figure | None,
    comparison: Comparison | None = None,
) -> str:
    """The page.

    Args:
        card: of the model, calibrated.
        evaluation: on the test part.
        measured: of the same file.
        learning: the learning curves, where they are known.
        confusion: the confusion matrix, where there is one.
        comparison: with the majority, where it was made.
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
        pictures=len(evaluation.classes),
        tiles=list(_tiles(evaluation, measured)),
        metrics=list(_metrics(evaluation)),
        mistakes=list(_mistakes(card, evaluation, confusion)),
        comparison=comparison,
        beside_majority=[] if comparison is None else list(_beside_majority(card, comparison)),
        method="temperature" if card.head is Head.SOFTMAX else "scale and bias of each logit",
        calibration_rows=list(_calibration_rows(card, evaluation, measured)),
        few=FEW,
        shown=shown,
        null=measured.null,
        gain=measured.gain,
        coverage=measured.coverage,
        coverage_by_label=_by_label(measured.coverage_by_label),
        strangers=measured.strangers,
        latency=measured.latency,
        facts=list(_facts(card)),
    )


def _drawn(card: ModelCard, measured: Measured) -> dict[str, Figure | None]:
    """What the template calls each figure; None where it was not measured."""
    drawn: dict[str, Figure | None] = {
        "reliability": figures.reliability_diagram(measured.raw, measured.calibrated),
        "latency_plot": figures.latency_plot(measured.latency),
        "coverage_plot": None,
        "energies": None,
    }
    if measured.coverage:
        drawn["coverage_plot"] = figures.coverage_plot(measured.coverage)
    if measured.strangers is not None and card.energy is not None:
        drawn["energies"] = figures.energy_histogram(measured.strangers, card.energy)
    return drawn


def _tiles(evaluation: Evaluation, measured: Measured) -> Iterator[tuple[str, str, str]]:
    """Value, its 95 % interval, and what it is."""
    of_model = {name: row for name, *row in _metrics(evaluation)}
    for name in (*_TILES, "ece"):
        if name in evaluation.metrics:
            value, interval = of_model[_named(name)]
            yield value, interval, _named(name)
    yield f"{measured.latency.median[0] * 1e6:,.0f} µs", "", "a picture, alone"
    for row in measured.coverage:
        if row.asked == 0.99:
            chance = f"{row.low:.2%} to {row.high:.2%} by chance"
            yield f"{row.covered:.2%}", chance, "found where 99 % was asked"


def _metrics(evaluation: Evaluation) -> Iterator[tuple[str, str, str]]:
    for name, value in evaluation.metrics.items():
        low, high = evaluation.intervals[name]
        yield _named(name), _stated(name, value), f"{_stated(name, low)} to {_stated(name, high)}"


def _by_label(rows: Sequence[Coverage]) -> dict[str, dict[float, Coverage]]:
    """Label → coverage that was asked for → what was found."""
    table: dict[str, dict[float, Coverage]] = {}
    for row in rows:
        table.setdefault(row.label or "", {})[row.asked] = row
    return table


def _mistakes(
    card: ModelCard, evaluation: Evaluation, confusion: Figure | None
) -> Iterator[tuple[Markup, str]]:
    if confusion is not None:
        yield svg(confusion), "Test pictures by what they are (rows) and what was said (columns)."
    if card.head is Head.SIGMOID:
        curves = figures.precision_recall_curves(
            card.labels, evaluation.predictions.probabilities, evaluation.classes
        )
        yield svg(curves), "Precision against recall of each label, with its average precision."


def _beside_majority(
    card: ModelCard, comparison: Comparison
) -> Iterator[tuple[str, str, str, bool]]:
    """Name of a figure, the network's, the majority's, and whether the network is no better."""
    for key, yardstick in comparison.metrics.items():
        name = key.removeprefix(MAJORITY)
        figures_of_both = (_stated(name, card.metrics[name]), _stated(name, yardstick))
        yield _named(name), *figures_of_both, name in comparison.lost


def _calibration_rows(
    card: ModelCard, evaluation: Evaluation, measured: Measured
) -> Iterator[tuple[str, Scores]]:
    assert card.calibration is not None  # noqa: S101 - the caller's card is calibrated
    metrics = evaluation.metrics
    yield "validation, raw", card.calibration.before
    yield "validation, calibrated", card.calibration.after
    yield "test, raw", Scores.model_validate(measured.uncalibrated_scores)
    yield "test, calibrated", Scores(**{name: metrics[name] for name in Scores.model_fields})


def _facts(card: ModelCard) -> Iterator[tuple[str, str]]:
    spec = card.input
    yield "head", card.head
    yield "labels", ", ".join(card.labels)
    yield "input", f"{spec.height}×{spec.width}×{spec.channels}, fit: {spec.fit}"
    if card.scaling is not None:
        yield "scaling", ", ".join(f"×{s.scale:.4g} {s.bias:+.4g}" for s in card.scaling)
    else:
        yield "temperature", f"{card.temperature:.4g}"
    if card.thresholds is not None:
        yield "thresholds", ", ".join(f"{threshold:.3g}" for threshold in card.thresholds)
    if card.dataset is not None:
        data = card.dataset
        yield "data", data.name
        parts = f"{data.train:,} to fit, {data.validation:,} to choose on, {data.test:,} to measure"
        yield "pictures", parts
        yield "SHA-256 of the data", data.sha256
    if card.training is not None:
        yield "recipe", f"{card.training.recipe}, seed {card.training.seed}"
        yield "settings", _pairs(card.training.settings)
        yield "libraries", _pairs(card.training.libraries)
    yield "created", f"{card.created:%Y-%m-%d %H:%M} UTC"
    yield "license of the weights", card.license


def _named(metric: str) -> str:
    return _NAMES.get(metric, metric.replace("_", " "))


def _stated(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric in _FRACTIONS else f"{value:.4f}"


def _pairs(values: dict[str, Any]) -> str:
    shown = {key: value for key, value in values.items() if value is not None}
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())
