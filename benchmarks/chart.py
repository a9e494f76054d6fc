"""The charts of the benchmarks."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from servers import CEILING, OURS

ACCENT, NEUTRAL, FAINT = "#2563eb", "#94a3b8", "#cbd5e1"
WIDE = 50
"""Largest over smallest from which a scale is logarithmic."""


def throughput(rows: list[dict[str, Any]], path: Path) -> None:
    """A bar a server, longest on top, with its ratio to the hand-written endpoint."""
    figure = Figure(figsize=(8, 0.42 * len(rows) + 0.9), layout="constrained")
    axes = figure.subplots()
    rows = sorted(rows, key=lambda row: float(row["requests_per_second"]))
    colors = {OURS: ACCENT, CEILING: FAINT}
    bars = axes.barh(
        [row["name"] for row in rows],
        [row["requests_per_second"] for row in rows],
        color=[colors.get(row["name"], NEUTRAL) for row in rows],
    )
    labels = [
        f"{row['requests_per_second']:,.0f}/s"
        + (f"  ({row['ratio']:.1f}×)" if row["ratio"] else "")
        for row in rows
    ]
    axes.bar_label(bars, labels, padding=4, fontsize=9)
    axes.set_title("One 28×28 PNG a request, 32 connections, one core", fontsize=11, loc="left")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, left=False)
    axes.set_xlim(right=1.18 * max(row["requests_per_second"] for row in rows))
    figure.savefig(path, dpi=150)


def sweep(title: str, rows: list[dict[str, Any]], path: Path) -> None:
    """A small chart for each column of numbers, over the first column."""
    first, *others = rows[0]
    figure = Figure(figsize=(3.2 * len(others), 2.8), layout="constrained")
    places = [str(row[first]) for row in rows]
    for axes, column in zip(figure.subplots(1, len(others), squeeze=False)[0], others, strict=True):
        values = [float(row[column]) for row in rows]
        axes.bar(places, values, color=ACCENT, width=0.6)
        axes.set_title(column, fontsize=9, loc="left")
        axes.set_xlabel(first, fontsize=8)
        axes.tick_params(labelsize=7, axis="both")
        axes.tick_params(axis="x", rotation=30)
        axes.spines[["top", "right"]].set_visible(False)
        if max(values) > WIDE * min(values):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    figure.suptitle(title.replace("`", ""), fontsize=10, x=0.01, ha="left")
    figure.savefig(path, dpi=130)
