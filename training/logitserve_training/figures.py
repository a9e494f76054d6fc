"""The figures of a report, and their conversion to inline SVG for light and dark pages."""

import io
import re
from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from sklearn.metrics import precision_recall_curve

from logitserve.inference.intervals import wilson
from logitserve.inference.reliability import Reliability
from logitserve_training.epochs import Epoch
from logitserve_training.evaluate import Evaluation
from logitserve_training.latency import Latency
from logitserve_training.measure import Coverage
from logitserve_training.plots import GRAY, GRID, PERCENT, Panel, empty, figure, plain
from logitserve_training.statistics.calibration import Floats

MAIN_COLOR: Final = "#d1495b"
_INK: Final = "#000000"
WIDTH: Final = 4.6
"""Inches; small enough that text is readable on a phone."""
_KIND_COLORS: Final = ("#e0a526", "#3d9970", "#8757a6", "#d2691e", "#2b83ba")
_FEWEST: Final = 20
"""Minimum number of pictures per point in the reliability diagram, if available."""
_MOST_CURVES: Final = 12
"""Number of curves with a color and a legend entry; more labels are thin gray lines."""
_MISSED: Final = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
"""Ticks of the coverage plot: shares of sets without the true label."""


def svg(made: Figure) -> Markup:
    """Return a figure as inline SVG without its title, in the page's font and text color.

    Equal figures give equal text.
    """
    made.suptitle("")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "logitserve"}):
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # ids would collide with other figures
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text)  # the page decides
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = text.replace(GRID, "var(--grid)").replace(_INK, "currentColor")
    # SVG text without a color is black by default.
    text = text.replace("<svg ", '<svg fill="currentColor" role="img" ', 1)
    return Markup(text)  # noqa: S704 - only numbers, and text that Matplotlib escapes


def reliability_diagram(raw: Reliability, calibrated: Reliability, *, of: str = "") -> Figure:
    """Draw a reliability diagram above the histogram of the stated probabilities.

    `of` is the label of the probabilities; empty for each picture's predicted label.
    """
    made = empty("Reliability diagram on the test part", (WIDTH, 4.6))
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GRID, linewidth=3, label="perfect")
    _bins(upper, raw, GRAY, f"uncalibrated, ECE {raw.error:.4f}")
    _bins(upper, calibrated, MAIN_COLOR, f"calibrated, ECE {calibrated.error:.4f}")
    upper.set(ylabel="observed frequency", xlim=(0, 1), ylim=(0, 1))
    upper.legend(frameon=False, loc="upper left", fontsize=9)
    edges = np.linspace(0, 1, len(calibrated.counts) + 1)
    lower.bar(edges[:-1], calibrated.counts, np.diff(edges), align="edge", color=MAIN_COLOR)
    if calibrated.counts.max() >= _FEWEST:
        lower.set_yscale("log")
        lower.yaxis.set_minor_locator(NullLocator())
    lower.set(xlabel=f"predicted probability{of and ' of '}{of}", ylabel="count")
    for axes in (upper, lower):
        plain(axes)
    return made


def coverage_plot(coverage: Sequence[Coverage]) -> Figure:
    """Plot measured against requested coverage, above the size of the sets."""
    made = empty("Prediction sets on the test part", (WIDTH, 4.6))
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    # The axis is the miscoverage (log scale), so that 99 % and 99.9 % are distinct; "all" is a
    # separate tick, since 0 is not on a log scale.
    held = np.array([(row.asked, row.covered, row.low, row.high) for row in coverage])
    shares = 1 - held
    none = shares[shares > 1e-9].min() / 2
    missed, found, *band = np.maximum(shares, none).T
    upper.fill_between(missed, *band, color=GRID, label="95 % by chance", linewidth=0)
    upper.plot(missed, missed, color=GRAY, linewidth=1, label="requested")
    upper.plot(missed, found, "o-", color=MAIN_COLOR, markersize=4, label="measured")
    upper.set(ylabel="measured coverage", yscale="log")
    upper.legend(frameon=False, fontsize=9)
    lower.plot(missed, [row.mean_size for row in coverage], "o-", color=MAIN_COLOR, markersize=4)
    lower.axhline(1, color=GRID, zorder=0)
    lower.set(xlabel="requested coverage", ylabel="mean set size", xscale="log")
    lower.invert_xaxis()
    upper.invert_yaxis()
    ticks = [tick for tick in _MISSED if tick > missed.min() - 1e-9]
    names = [PERCENT(1 - tick) for tick in ticks]
    lower.set_xticks(ticks, names, fontsize=8)
    upper.set_yticks([*ticks, none], [*names, "all"], fontsize=8)
    for axis in (upper.yaxis, lower.xaxis):
        axis.set_minor_locator(NullLocator())
    for axes in (upper, lower):
        plain(axes)
    return made


def novelty_histogram(kinds: Mapping[str, Floats], name: str, threshold: float) -> Figure:
    """Plot novelties by kind of picture, `[n]`, with the threshold of known pictures."""
    made = empty(f"{name} by kind of picture", (WIDTH, 0.6 + 0.6 * len(kinds)))
    rows = made.subplots(len(kinds), 1, sharex=True, squeeze=False)[:, 0]
    low, high = (
        float(edge) for edge in np.quantile(np.concatenate(list(kinds.values())), [0.001, 0.999])
    )
    edges = np.linspace(min(low, threshold - 0.5), max(high, threshold) + 0.5, 50)
    for axes, (kind, novelties), color in zip(
        rows, kinds.items(), chain([MAIN_COLOR], cycle(_KIND_COLORS)), strict=False
    ):
        axes.hist(np.clip(novelties, edges[0], edges[-1]), edges, color=color)
        axes.axvline(threshold, color=_INK, linewidth=1)
        axes.set_yticks([])
        axes.set_ylabel(kind, rotation=0, ha="right", va="center", fontsize=9)
        axes.spines[["top", "left", "right"]].set_visible(False)
    rows[-1].set_xlabel(f"{name.lower()}; right of the line: not known")
    return made


def latency_plot(latency: Latency) -> Figure:
    """Plot the time per picture against the batch size."""
    batches = np.array(latency.batches)
    dots, main = {"marker": "o", "markersize": 4}, {"color": MAIN_COLOR}
    found = {"90th percentile": latency.slowest_tenth, "median": latency.median}

    def ticks(axes: Axes) -> None:
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.xaxis.set_minor_locator(NullLocator())

    panel = Panel(
        "", "batch size", "µs per picture",
        {name: (batches, np.array(times) / batches * 1e6) for name, times in found.items()},
        log="xy",
        styles={"90th percentile": dots | {"color": GRAY}, "median": dots | main},
        also=ticks,
    )  # fmt: skip
    title = f"Latency per picture, one thread, {latency.processor}"
    return figure(title, panel, width=WIDTH, height=3.5)


def learning_curves(name: str, epochs: Sequence[Epoch]) -> Figure:
    """Plot training and validation loss and error rate after each epoch."""
    curves = {
        "loss (nats)": [(one.loss, one.validation_loss) for one in epochs],
        "error rate": [(1 - one.accuracy, 1 - one.validation_accuracy) for one in epochs],
    }
    marker = "o" if len(epochs) == 1 else ""
    styles = {
        "training": {"color": GRAY, "marker": marker},
        "validation": {"color": MAIN_COLOR, "marker": marker},
    }
    numbers = np.arange(1, len(epochs) + 1)
    panels = [
        Panel(
            "", "epoch", quantity,
            {part: (numbers, ys) for part, ys in zip(styles, np.transpose(pairs), strict=True)},
            log="y" * bool(np.min(pairs) > 0), styles=styles,
            percent=quantity == "error rate", legend="best" * (quantity == "loss (nats)"),
        )
        for quantity, pairs in curves.items()
    ]  # fmt: skip
    return figure(f"{name}: learning curves", *panels, columns=1, width=WIDTH, height=2.6)


def precision_recall_curves(labels: Sequence[str], evaluation: Evaluation) -> Figure:
    """Plot precision against recall per label of a sigmoid model, with its operating point."""
    assert evaluation.answers is not None  # noqa: S101 - ensured by the caller
    made = empty("Precision-recall curves on the test part", (WIDTH, 4.6))
    axes = made.subplots()
    colors = mpl.colormaps["tab20"].colors[::2] + mpl.colormaps["tab20"].colors[1::2]  # type: ignore[attr-defined]
    columns = (evaluation.predictions.probabilities.T, evaluation.classes.T, evaluation.answers.T)
    least = 1.0
    for index, (label, scores, stated, truth, said) in enumerate(
        zip(labels, evaluation.by_label, *columns, strict=True)
    ):
        if scores.average_precision is None:
            continue
        precision, recall, _ = precision_recall_curve(truth, stated)
        least = min(least, float(np.minimum(precision, recall).max()))
        style: dict[str, Any] = {"color": GRAY, "linewidth": 0.7}
        if index < _MOST_CURVES:
            style = {
                "color": colors[index],
                "label": f"{label}: {scores.average_precision.value:.3f}",
            }
        axes.plot(recall, precision, **style)
        right = float((said * truth).sum())
        point = right / scores.support, right / max(said.sum(), 1)
        axes.plot(*point, "o", color=style["color"], markersize=4)
    # The axis begins at three times the distance from 1 of the worst label's break-even point.
    low = max(1 - 3 * (1 - least), 0.0)
    edge = 0.03 * (1 - low) or 0.03
    axes.set(xlabel="recall", ylabel="precision", xlim=(low, 1 + edge), ylim=(low, 1 + edge))
    axes.legend(
        frameon=False, fontsize=8, title="average precision", title_fontsize=8, loc="lower left"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PERCENT)
    plain(axes)
    return made


def _bins(axes: Axes, bins: Reliability, color: str, label: str) -> None:
    """Plot one point per bin at its mean stated probability; the size shows the count."""
    few = bins.merged(_FEWEST)
    stated, came_true = few.stated / few.counts, few.came_true / few.counts
    axes.plot(stated, came_true, color=color, linewidth=1, label=label)
    # not clipped at the edges, where the surest predictions are
    axes.scatter(stated, came_true, 8 + 6 * np.log10(few.counts), color=color, clip_on=False)
    shares = zip(few.came_true.astype(int).tolist(), few.counts.astype(int).tolist(), strict=True)
    low, high = np.transpose([wilson(*share) for share in shares])
    axes.vlines(stated, low, high, color=color, linewidth=1, clip_on=False)
