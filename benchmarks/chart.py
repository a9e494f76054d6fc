"""The charts of the benchmarks."""

import textwrap
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
