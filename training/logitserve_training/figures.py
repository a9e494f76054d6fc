"""The figures of a report, and how they become part of a page that is light or dark."""

import io
import re
from collections.abc import Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter
from sklearn.metrics import average_precision_score, precision_recall_curve

from logitserve.inference.card import Energy
from logitserve_training.latency import Latency
from logitserve_training.measure import Coverage
from logitserve_training.statistics.calibration import Floats, Truth
from logitserve_training.statistics.reliability import Reliability
from logitserve_training.strangers import Strangers

BEFORE_COLOR: Final = "#7a8699"
MAIN_COLOR: Final = "#d1495b"
GRID_COLOR: Final = "#e5e7eb"
_INK: Final = "#000000"
_SIZE: Final = (4.6, 3.5)
"""Inches; small, so that the letters can be read on a telephone."""
_KIND_COLORS: Final = ("#e0a526", "#3d9970", "#8757a6", "#d2691e", "#2b83ba")
_MOST_CURVES: Final = 12
"""Curves with a color and a line in the legend; a label more is a thin gray line."""


def figure(title: str, inches: tuple[float, float] = _SIZE) -> Figure:
    """An empty figure with a title."""
    made = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(made)
    made.suptitle(title, size=11, weight="bold")
    return made


def svg(made: Figure) -> Markup:
    """A figure as inline SVG without its title, in the page's own font and ink.

    The same figure gives the same text.
    """
    made.suptitle("")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "logitserve"}):
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # would repeat on a page of several figures
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text)  # the page decides
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = text.replace(GRID_COLOR, "var(--grid)").replace(_INK, "currentColor")
    # Text without a color of its own is black by SVG's default.
    text = text.replace("<svg ", '<svg fill="currentColor" role="img" ', 1)
    return Markup(text)  # noqa: S704 - made here, of numbers and of text that Matplotlib escapes


def reliability_diagram(raw: Reliability, calibrated: Reliability) -> Figure:
    """How often what was stated came true, above how many pictures stated so."""
    made = figure("Stated probability against what came true, on the test part", (4.6, 4.6))
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GRID_COLOR, linewidth=3, label="perfect")
    _bins(upper, raw, BEFORE_COLOR, f"raw, ECE {raw.error:.4f}")
    _bins(upper, calibrated, MAIN_COLOR, f"calibrated, ECE {calibrated.error:.4f}")
    upper.set(ylabel="came true", xlim=(0, 1), ylim=(0, 1))
    upper.legend(frameon=False, loc="upper left", fontsize=9)
    edges = np.linspace(0, 1, len(calibrated.counts) + 1)
    lower.bar(edges[:-1], calibrated.counts, np.diff(edges), align="edge", color=MAIN_COLOR)
    lower.set_yscale("log")
    lower.set(xlabel="stated probability", ylabel="stated so")
    for axes in (upper, lower):
        _plain(axes)
    return made


def coverage_plot(coverage: Sequence[Coverage]) -> Figure:
    """Coverage that was asked for against coverage that was given, above the size of the sets."""
    made = figure("Prediction sets on the test part", (4.6, 4.6))
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    # The axis is that of the share that is missed, so that 99 % and 99.9 % are apart.
    missed = 1 - np.array([row.asked for row in coverage])
    upper.plot(missed, missed, color=GRID_COLOR, linewidth=3, label="as asked")
    found = np.maximum(1 - np.array([row.covered for row in coverage]), 1e-5)
    upper.plot(missed, found, "o-", color=MAIN_COLOR, markersize=4, label="found")
    upper.set(ylabel="covered", yscale="log")
    upper.legend(frameon=False, fontsize=9)
    lower.plot(missed, [row.mean_size for row in coverage], "o-", color=MAIN_COLOR, markersize=4)
    lower.axhline(1, color=GRID_COLOR, zorder=0)
    lower.set(xlabel="coverage asked for", ylabel="labels in a set", xscale="log")
    ticks = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001]
    lower.invert_xaxis()
    upper.invert_yaxis()
    few = [0.5, 0.1, 0.02, 0.005, 0.001]
    upper.set_yticks(few, [_share(1 - tick) for tick in few])
    lower.set_xticks(ticks, [_share(1 - tick) for tick in ticks], fontsize=8)
    for axis in (upper.yaxis, lower.xaxis):
        axis.set_minor_locator(NullLocator())
    for axes in (upper, lower):
        _plain(axes)
    return made


def energy_histogram(strangers: Strangers, energy: Energy) -> Figure:
    """Energies of the test part and of strangers, with the threshold between known and not."""
    made = figure("Energy of test pictures and of strangers", (4.6, 4.2))
    kinds = {"test part": strangers.at_home, **strangers.energies}
    rows = made.subplots(len(kinds), 1, sharex=True)
    low, high = (
        float(edge) for edge in np.quantile(np.concatenate(list(kinds.values())), [0.001, 0.999])
    )
    edges = np.linspace(low, max(high, energy.threshold) + 0.5, 50)
    for axes, (kind, energies), color in zip(
        rows, kinds.items(), (MAIN_COLOR, *_KIND_COLORS), strict=True
    ):
        axes.hist(np.clip(energies, edges[0], edges[-1]), edges, color=color)
        axes.axvline(energy.threshold, color=_INK, linewidth=1)
        axes.set_yticks([])
        axes.set_ylabel(kind, rotation=0, ha="right", va="center", fontsize=9)
        axes.spines[["top", "left", "right"]].set_visible(False)
    rows[-1].set_xlabel("energy; right of the line: not known")
    return made


def latency_plot(latency: Latency) -> Figure:
    """Time of a picture by how many are in a run."""
    made = figure(f"Time of a picture, one thread, {latency.processor}")
    axes = made.subplots()
    batches = np.array(latency.batches)
    for seconds, color, label in (
        (latency.slowest_tenth, BEFORE_COLOR, "90th percentile"),
        (latency.median, MAIN_COLOR, "median"),
    ):
        microseconds = np.array(seconds) / batches * 1e6
        axes.plot(batches, microseconds, "o-", color=color, markersize=4, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.set(xlabel="pictures in a run", ylabel="µs a picture")
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return made


def precision_recall_curves(
    labels: Sequence[str], probabilities: Floats, outcomes: Truth
) -> Figure:
    """For each label precision against recall; both arrays are `[n, labels]`."""
    made = figure("Precision against recall on the test part", (4.6, 4.6))
    axes = made.subplots()
    colors = mpl.colormaps["tab20"].colors[::2] + mpl.colormaps["tab20"].colors[1::2]  # type: ignore[attr-defined]
    for index, (label, stated, truth) in enumerate(
        zip(labels, probabilities.T, outcomes.T, strict=True)
    ):
        if not truth.any():
            continue
        precision, recall, _ = precision_recall_curve(truth, stated)
        mean = average_precision_score(truth, stated)
        style: dict[str, Any] = {"color": BEFORE_COLOR, "linewidth": 0.7}
        if index < _MOST_CURVES:
            style = {"color": colors[index], "label": f"{label}: {mean:.3f}"}
        axes.plot(recall, precision, **style)
    axes.set(xlabel="recall", ylabel="precision", ylim=(None, 1.005))
    axes.legend(frameon=False, fontsize=8, title="average precision", title_fontsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    _plain(axes)
    return made


def _bins(axes: Axes, bins: Reliability, color: str, label: str) -> None:
    """A point a bin, at the mean of what was stated; larger where more stated so."""
    filled = bins.counts > 0
    counts = bins.counts[filled]
    stated, came_true = bins.stated[filled] / counts, bins.came_true[filled] / counts
    axes.plot(stated, came_true, color=color, linewidth=1, label=label)
    axes.scatter(stated, came_true, 8 + 6 * np.log10(counts), color=color)
    # One standard error: a bin of a few pictures says little.
    error = np.sqrt(came_true * (1 - came_true) / counts)
    axes.vlines(stated, came_true - error, came_true + error, color=color, linewidth=1)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color=GRID_COLOR)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _share(value: float) -> str:
    return f"{100 * value:g} %"
