"""The page's plots."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from logitserve_training.numerics import decay, descent, endings, gradients, layers, limits, losses

Floats = npt.NDArray[np.float64]

_BLUE, _VERMILION, _GREEN, _ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
_PURPLE, _GRAY, _GRID = "#cc79a7", "#7a8699", "#e5e7eb"
"""Okabe and Ito's colors, which people who see fewer colors can tell apart."""

_WAYS: Final[dict[str, dict[str, Any]]] = {  # the best one lies under the others
    losses.FUSED: {"color": _BLUE, "linewidth": 4, "alpha": 0.45},
    losses.CLIPPED: {"color": _GREEN, "linewidth": 1.6, "linestyle": "-"},
    losses.SHIFTED: {"color": _ORANGE, "linewidth": 1.8, "linestyle": "--"},
    losses.TEXTBOOK: {"color": _VERMILION, "linewidth": 1.8, "linestyle": ":"},
}
_ENDINGS: Final[dict[str, dict[str, Any]]] = {
    endings.LINEAR: {"color": _BLUE, "linewidth": 5, "alpha": 0.4},
    endings.SOFTMAX: {"color": _BLUE, "linewidth": 1.4},
    endings.HIDDEN: {"color": _GREEN, "linewidth": 1.6, "linestyle": "--"},
    endings.TEXTBOOK: {"color": _VERMILION, "linewidth": 1.8, "linestyle": ":"},
}
_ABSOLUTE: Final = (1e-12, 1e3)
_RELATIVE: Final = (1e-9, 1e2)
"""Errors that are shown; smaller ones lie on the lower edge."""
_STRETCH: Final = 16
"""Points of a sweep to one logit."""


def save(figure: Figure, path: Path) -> None:
    """With a palette, which takes a third of the bytes and looks the same."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def loss_sweeps(sweeps: list[losses.Sweep]) -> Figure:
    """The loss, its absolute and its relative error, softmax beside sigmoid."""
    figure = _sweeps(
        "The loss of the true class in float32, by its logit",
        "loss (nats)",
        [(sweep, sweep.loss, sweep.losses) for sweep in sweeps],
    )
    for axes in figure.axes[:2]:
        axes.set_ylim(-10, 210)
    return figure


def gradient_sweeps(sweeps: list[losses.Sweep]) -> Figure:
    """The same of the gradient."""
    return _sweeps(
        "The gradient of the loss in float32, by the logit of the true class",
        "d loss / d logit",
        [(sweep, sweep.gradient, sweep.gradients) for sweep in sweeps],
    )


def _sweeps(
    title: str,
    quantity: str,
    columns: list[tuple[losses.Sweep, Floats, Mapping[str, Floats]]],
) -> Figure:
    figure = _figure(title, (10, 9))
    cells = figure.subplots(3, len(columns), sharex=True, sharey="row")
    for (value, absolute, relative), (sweep, exact, by_way) in zip(cells.T, columns, strict=True):
        for way, style in _WAYS.items():
            computed = np.where(np.isfinite(by_way[way]), by_way[way], np.nan)
            error = np.abs(computed - exact)
            value.plot(sweep.logits, computed, label=way, **style)
            absolute.semilogy(*_worst(sweep.logits, error, floor=_ABSOLUTE[0]), **style)
            relative.semilogy(
                *_worst(sweep.logits, error / np.abs(exact), floor=_RELATIVE[0]), **style
            )
        value.set_title(sweep.head, size=10)
        absolute.set_ylim(*_ABSOLUTE)
        relative.set_ylim(*_RELATIVE)
        relative.set_xlabel("logit")
    for axes in cells.ravel():
        _plain(axes)
    labels = (quantity, "absolute error (or less)", "relative error (or less)")
    for axes, label in zip(cells[:, 0], labels, strict=True):
        axes.set_ylabel(label)
    handles, names = cells[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
        title="a line ends where its value is infinite or NaN",
    )
    return figure


def _worst(logits: Floats, errors: Floats, *, floor: float) -> tuple[Floats, Floats]:
    """The largest error in each stretch of one logit, which has no zigzag; NaN stays."""
    whole = len(errors) // _STRETCH * _STRETCH
    centers: Floats = logits[:whole].reshape(-1, _STRETCH).mean(axis=1)
    worst: Floats = errors[:whole].reshape(-1, _STRETCH).max(axis=1)
    return centers, np.maximum(worst, floor)


def finite_differences(checks: list[gradients.Check]) -> Figure:
    """The error of central differences by their step: too coarse, then too fine."""
    figure = _figure("dz = ŷ − y against central differences", (7, 4))
    axes = figure.subplots()
    for check, color, style in zip(checks, (_BLUE, _VERMILION), ("-", "--"), strict=True):
        axes.loglog(gradients.STEPS, check.differences, style, color=color, label=check.head)
    best = max(float(check.differences.min()) for check in checks)
    axes.annotate("round-off: ε/h", (1e-11, 1e-4), xytext=(1e-10, 3e-4), color=_GRAY)
    axes.annotate("curvature: h²", (1e-2, 1e-6), xytext=(3e-3, 1e-8), color=_GRAY)
    axes.set(xlabel="step h", ylabel="largest error of a derivative")
    axes.set_ylim(best / 30, None)
    axes.legend(frameon=False)
    _plain(axes)
    return figure


def training_endings(settings: list[endings.Setting]) -> Figure:
    """Validation accuracy by epoch for each ending, a panel for each start."""
    figure = _figure("The same network and seed with different endings", (12, 3.9))
    cells = figure.subplots(1, len(settings), sharey=True)
    for axes, setting in zip(cells, settings, strict=True):
        for name, style in _ENDINGS.items():
            axes.plot(setting.curves[name].accuracies, label=name, **style)
        axes.set_title(
            f"{setting.name}\n(logits of the fresh network: {setting.spread:.3g})", size=10
        )
        _epochs(axes)
    cells[0].set_ylabel("validation accuracy")
    cells[0].yaxis.set_major_formatter(FuncFormatter(_percent))
    cells[0].legend(frameon=False, loc="lower right", fontsize=9)
    return figure


def descents(result: descent.Descent) -> Figure:
    """Paths in a bowl, and the training loss of the lecture's network."""
    styles = {
        "too small": {"color": _ORANGE, "marker": "o"},
        "right": {"color": _BLUE, "marker": "s"},
        "too large": {"color": _VERMILION, "marker": "v"},
        "Adam": {"color": _GREEN, "marker": "D"},
    }
    figure = _figure("Gradient descent at three rates, and Adam", (12, 4.4))
    bowl, loss = figure.subplots(1, 2)
    first, second = np.meshgrid(np.linspace(-10, 4, 141), np.linspace(-2.6, 2.6, 105))
    heights = descent.bowl(np.stack([first, second], axis=-1))
    bowl.contour(first, second, heights, levels=np.geomspace(0.5, 120, 9), colors=_GRID)
    for name, style in styles.items():
        bowl.plot(*result.paths[name].T, markersize=3, linewidth=1, **style)
        loss.plot(result.curves[name].losses, markersize=4, label=name, **style)
    bowl.plot(0, 0, "+", color="black", markersize=11)
    bowl.set_title(f"{descent.BOWL_STEPS} steps in a bowl 25 times as steep across", size=10)
    bowl.set(xlabel="w₁", ylabel="w₂")
    bowl.spines[["top", "right"]].set_visible(False)
    loss.set_title("the 25-15-10 network, batches of 128", size=10)
    loss.set_yscale("log")
    loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    loss.set_ylabel("training loss (nats)")
    loss.legend(frameon=False)
    _epochs(loss)
    return figure


def weight_decay(result: decay.Decay) -> Figure:
    """Lone weights under Adam, both ways, and the networks' accuracies by strength."""
    figure = _figure("Weight decay: decoupled, and as an L2 penalty", (12.5, 4))
    plain, penalty, accuracy = figure.subplots(1, 3)
    colors = (_BLUE, _GREEN, _ORANGE, _VERMILION)
    for axes, way in ((plain, decay.DECOUPLED), (penalty, decay.PENALTY)):
        path = result.lone[decay.ADAM, way]
        for column, (noise, color) in enumerate(zip(decay.NOISES, colors, strict=True)):
            axes.plot(path[:, column], color=color, label=f"{noise:g}")
        axes.set_title(f"Adam, {way}: a weight without slope", size=10)
        axes.set(xlabel="step", ylabel="weight, mean of 256", ylim=(-0.08, 1.05))
        _plain(axes)
    penalty.legend(
        frameon=False, title="noise of the gradient", fontsize=9, bbox_to_anchor=(1, 0.87)
    )
    for optimizer, color in ((decay.SGD, _BLUE), (decay.ADAM, _VERMILION)):
        for way, style in ((decay.DECOUPLED, "-o"), (decay.PENALTY, "--s")):
            runs = result.of(optimizer, way)
            accuracy.semilogx(
                [run.strength for run in runs],
                [run.accuracy for run in runs],
                style,
                color=color,
                label=f"{optimizer}, {way}",
                alpha=0.7,
            )
    accuracy.set_title(f"the 25-15-10 network on {result.pictures:,} pictures", size=10)
    accuracy.set(xlabel="strength λ", ylabel="validation accuracy")
    accuracy.yaxis.set_major_formatter(FuncFormatter(_percent))
    accuracy.legend(frameon=False, fontsize=9)
    _plain(accuracy)
    return figure


def temperatures(result: limits.Limits) -> Figure:
    """Probabilities by temperature, and how fast they near their limits."""
    figure = _figure("Softmax(z / T): from hardmax to uniform", (11, 4))
    shares, distance = figure.subplots(1, 2)
    colors = (_BLUE, _GREEN, _ORANGE, _VERMILION)
    styles = ("-", "--", "-.", ":")
    for column, (logit, color, style) in enumerate(zip(limits.LOGITS, colors, styles, strict=True)):
        probability = result.probabilities[:, column]
        shares.semilogx(
            limits.TEMPERATURES, probability, style, color=color, label=f"z = {logit:g}"
        )
    shares.axvline(1, color=_GRAY, linewidth=0.8)
    shares.set(xlabel="temperature T", ylabel="probability")
    shares.legend(frameon=False)
    distance.loglog(limits.TEMPERATURES, result.to_hardmax, color=_BLUE, label="from hardmax")
    distance.loglog(
        limits.TEMPERATURES, result.to_uniform, "--", color=_VERMILION, label="from uniform"
    )
    distance.set(xlabel="temperature T", ylabel="largest difference", ylim=(1e-17, 3))
    distance.legend(frameon=False)
    for axes in (shares, distance):
        _plain(axes)
    return figure


def contest(result: layers.Contest) -> Figure:
    """Error rates at equal size, with pixels in place and permuted, and under shifts."""
    figure = _figure("Dense against convolutional layers at equal parameters", (12, 4.2))
    errors, moved = figure.subplots(1, 2)
    styles = {layers.DENSE: (_VERMILION, "s"), layers.CONVOLUTIONAL: (_BLUE, "o")}
    lines = (":", "-")  # small, large
    for offset, (kind, (color, marker)) in zip((-0.31, 0.11), styles.items(), strict=True):
        found = result.of(kind)
        places = np.arange(len(found))
        for shift, label, values, hatch in (
            (0.0, kind, [one.accuracy for one in found], ""),
            (0.2, f"{kind}, pixels permuted", [one.permuted for one in found], "///"),
        ):
            bars = errors.bar(
                places + offset + shift,
                1 - np.array(values),
                0.19,
                label=label,
                facecolor=color,
                edgecolor="white",
                hatch=hatch,
            )
            errors.bar_label(bars, fmt=lambda value: f"{100 * value:.1f} %", size=8)
        for one, line in zip(found, lines, strict=True):
            moved.plot(
                layers.SHIFTS,
                one.shifted,
                line,
                color=color,
                marker=marker,
                label=f"{kind}, {one.parameters:,}",
            )
    names = [
        f"{one.parameters:,} and\n{other.parameters:,} parameters"
        for one, other in zip(result.of(layers.DENSE), result.of(layers.CONVOLUTIONAL), strict=True)
    ]
    errors.set_xticks(range(len(names)), names)
    errors.set_ylabel("wrong answers, validation")
    errors.yaxis.set_major_formatter(FuncFormatter(_percent))
    moved.set(xlabel="pixels to the right", ylabel="validation accuracy")
    moved.yaxis.set_major_formatter(FuncFormatter(_percent))
    moved.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (errors, moved):
        axes.legend(frameon=False, fontsize=9)
        _plain(axes)
    return figure


def _epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _percent(value: float, _position: Any) -> str:
    return f"{100 * value:g} %"


def _figure(title: str, inches: tuple[float, float]) -> Figure:
    figure = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, size=11, weight="bold")
    return figure
