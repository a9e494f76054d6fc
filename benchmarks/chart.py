"""The charts of the benchmarks."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from servers import CEILING, OURS

ACCENT, NEUTRAL, FAINT = "#2563eb", "#94a3b8", "#cbd5e1"


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
