"""Draw figures: panels of lines in colors suitable for the color-blind."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

BLUE, VERMILION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, GRAY, GRID = "#cc79a7", "#7a8699", "#e5e7eb"
"""Okabe and Ito's palette, distinguishable with color blindness."""

PERCENT: Final = FuncFormatter(lambda share, _: f"{100 * share:g} %")
"""Tick formatter of an axis of proportions."""
Style = Mapping[str, Any]
_STYLES: Final[tuple[Style, ...]] = tuple(
    {"color": color, "linestyle": line}
    for color, line in (
        (BLUE, "-"), (VERMILION, "--"), (GREEN, "-."), (ORANGE, ":"), (PURPLE, "-"), (GRAY, "--")
    )
)  # fmt: skip
_OVERLAID: Final[tuple[Style, ...]] = (
    {"color": BLUE, "linewidth": 5, "alpha": 0.4},
    {"color": BLUE, "linewidth": 1.4},
    {"color": GREEN, "linewidth": 1.6, "linestyle": "--"},
    {"color": VERMILION, "linewidth": 1.8, "linestyle": ":"},
    {"color": PURPLE, "linewidth": 1.6, "linestyle": "-."},
)
"""Styles of overlapping lines."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    lines: Mapping[str, tuple[Any, Any]]
    """Label → x `[n]`, and y `[n]` or `[seeds, n]`, drawn as mean and range over seeds."""
    log: str = ""
    """Axes with a log scale: x, y or both."""
    percent: bool = False
    x_range: tuple[float | None, float | None] = (None, None)
    y_range: tuple[float | None, float | None] = (None, None)
    styles: Mapping[str, Style] = field(default_factory=dict)
    overlaid: bool = False
    legend: Any = "best"
    """Position; empty for none."""
    mark: float | None = None
    """Position of a thin vertical line."""
    also: Callable[[Axes], object] = lambda _: None


def empty(title: str, inches: tuple[float, float]) -> Figure:
    """Return an empty figure of this width and height in inches, with a title."""
    drawn = Figure(figsize=inches, layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.suptitle(title, size=12, weight="bold")
    return drawn


def figure(
    title: str, *panels: Panel, columns: int = 0, height: float = 3.9, width: float | None = None
) -> Figure:
    """Draw panels in rows of `columns`; 0 is one row; the height is of a row, in inches."""
    columns = columns or len(panels)
    rows = -(-len(panels) // columns)
    drawn = empty(title, (width or {1: 7.0, 2: 10.5}.get(columns, 12.5), height * rows))
    for axes, panel in zip(drawn.subplots(rows, columns, squeeze=False).flat, panels, strict=True):
        _draw(axes, panel)
    return drawn


def save(drawn: Figure, path: Path) -> None:
    """Save as a palette PNG, a third of the size with the same look."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=110)
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _draw(axes: Axes, panel: Panel) -> None:
    styles = _OVERLAID if panel.overlaid else _STYLES
    for (label, (x, y)), usual in zip(panel.lines.items(), styles, strict=False):
        style = dict(panel.styles.get(label, usual))
        seeds = np.atleast_2d(np.asarray(y, dtype=np.float64))
        axes.plot(x, seeds.mean(axis=0), label=label, **style)
        if len(seeds) > 1:
            band = (seeds.min(axis=0), seeds.max(axis=0))
            axes.fill_between(x, *band, color=style["color"], alpha=0.15, linewidth=0)
    axes.set_xscale("log" if "x" in panel.log else "linear")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log" if "y" in panel.log else "linear")
    if all(np.issubdtype(np.asarray(x).dtype, np.integer) for x, _ in panel.lines.values()):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=panel.x, ylabel=panel.y)
    axes.set_title(panel.title, size=10)
    panel.also(axes)
    if panel.mark is not None:
        axes.axvline(panel.mark, color=GRAY, linewidth=0.8)
    axes.set_xlim(*panel.x_range)
    axes.set_ylim(*panel.y_range)
    low, high = axes.get_ylim()
    if "y" in panel.log and high < 1000 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    if panel.percent:
        axes.yaxis.set_major_formatter(PERCENT)
    if panel.legend and any(panel.lines):
        axes.legend(frameon=False, fontsize=9, loc=panel.legend)
    plain(axes)


def plain(axes: Axes) -> None:
    """Draw thin horizontal grid lines and no frame."""
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
