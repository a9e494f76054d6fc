"""Draws what `make knee` found: `python -m tests.load.chart knee.json knee.png`."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

QUANTILES = {"p50": "#7a9cc6", "p95": "#3a6ea5", "p99": "#12355b"}


def drawn(found: dict[str, Any]) -> Figure:
    """Latency over rate, with the limit and the knee."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    # Of a rate that was tried again, the later try, which decided.
    last = {step["offered"]: step for step in found["steps"]}
    steps = [last[offered] for offered in sorted(last)]
    for name, color in QUANTILES.items():
        axes.plot(
            [step["reached"] for step in steps],
            [step[name] for step in steps],
            marker="o",
            markersize=4,
            color=color,
            label=name,
        )
    axes.axhline(found["limit_ms"], color="#b03a2e", linewidth=1, linestyle="--")
    if knee := found["knee"]:
        axes.annotate(
            f"knee: {knee['reached']:.0f} requests/s",
            (knee["reached"], knee["p99"]),
            xytext=(-12, 26),
            textcoords="offset points",
            ha="right",
            bbox={"facecolor": "white", "edgecolor": "none"},
            arrowprops={"arrowstyle": "->", "color": "#444444"},
        )
    axes.set(xlabel="requests per second", ylabel="milliseconds", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # more would overlap
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    return figure


def main() -> None:
    """Draw one file into another."""
    source, target = sys.argv[1:]
    mpl.rcParams["font.size"] = 10
    drawn(json.loads(Path(source).read_text())).savefig(target, dpi=110)


if __name__ == "__main__":
    main()
