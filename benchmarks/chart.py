"""The charts of the benchmarks."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ACCENT, NEUTRAL, DARK = "#2563eb", "#94a3b8", "#0f172a"
WIDE = 50
"""Largest over smallest from which a scale is logarithmic."""


def forms(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A bar a row of the table: logitserve over the hand-written endpoint, with mosec's mark."""
    figure = Figure(figsize=(8, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    ratios = [row["ratio"] for row in rows]
    axes.barh(places, ratios, color=ACCENT, height=0.65, label="logitserve")
    for place, ratio in enumerate(ratios):  # where no mark of mosec lies over it
        text = f"{ratio:.1f}×"
        axes.text(0.5, place, text, color="white", fontsize=8, ha="center", va="center")
    mosec = {place: row["servers"].get("mosec") for place, row in enumerate(rows)}
    marks = [(found["ratio"], place) for place, found in mosec.items() if found]
    if marks:
        axes.plot(*zip(*marks, strict=True), "D", color=DARK, markersize=4, label="mosec")
    axes.axvline(1, color=NEUTRAL, linewidth=1, label="hand-written FastAPI = 1")
    axes.set_yticks(
        places, [f"{row['form']}, {row['model']}".replace("`", "") for row in rows], fontsize=8
    )
    axes.set_xlim(left=0, right=1.1 * max([*ratios, *(ratio for ratio, _ in marks)]))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, left=False)
    figure.suptitle("Requests/s, times those of a hand-written endpoint", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def sweep(title: str, rows: list[dict[str, Any]], path: Path) -> None:
    """Bars for each column of numbers, from top to bottom as the first column has it."""
    first, *others = rows[0]
    height = 0.25 * len(rows) + 0.9
    figure = Figure(figsize=(1 + 2.4 * len(others), height), layout="constrained")
    places = [textwrap.fill(str(row[first]), 20) for row in rows]
    together = figure.subplots(1, len(others), squeeze=False, sharey=True)[0]
    for axes, column in zip(together, others, strict=True):
        values = [float(row[column]) for row in rows]
        bars = axes.barh(places, values, color=ACCENT, height=0.6)
        axes.bar_label(bars, [short(value) for value in values], padding=3, fontsize=7)
        axes.set_title(column, fontsize=8, loc="left")
        axes.tick_params(which="both", labelsize=7, bottom=False, labelbottom=False, left=False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        if max(values) > WIDE * min(values):
            axes.set_xscale("log")
            axes.set_xlabel("logarithmic", fontsize=7, loc="left")
        else:
            axes.set_xlim(left=0)
        axes.margins(x=0.3)
    together[0].set_ylabel(first, fontsize=8)
    together[0].invert_yaxis()
    figure.suptitle(title.replace("`", ""), fontsize=9, x=0.01, ha="left")
    figure.savefig(path, dpi=150)


def short(value: float) -> str:
    """A number as the tables and the charts of the sweeps show it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
